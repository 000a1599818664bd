# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests import export_test
from tests.methods import contract_test as contract
from tfseg import export
from tfseg.networks import base

CROPS = ("first", "second")
PLACES = 16  # Of a crop: 8 x 8 pixels, pooled by 2.


def _make(replicas=1, **changes):
    options = {"start_steps": 0, "threshold": 0.3, "bank_size": 512}
    return contract.make("cac", replicas, **options | changes)


def _views(method, batch):
    """Numpy (features, label, confidence) of both crops, as places."""
    shape = [contract.BATCH, PLACES]
    views = (method.look(tf.constant(batch["unlabeled"][x]))[1] for x in CROPS)
    return [[x.numpy().reshape(shape + x.shape[3:]) for x in v] for v in views]


def _whole(batch):
    """bool [B, PLACES] of both crops: squares of four without padding."""
    valid = (batch["unlabeled"][f"{name}_valid"] for name in CROPS)
    squares = (x.reshape([-1, 4, 2, 4, 2]).all((2, 4)) for x in valid)
    return [x.reshape([-1, PLACES]) for x in squares]


def _partners(batch):
    """For each image: pairs (place in the first crop, in the second)."""
    first, second = _whole(batch)
    # Columns 2 and 3 of the first crop are 3 and 2 of the second.
    pairs = [(4 * y + x, 4 * y + 5 - x) for y in range(4) for x in (2, 3)]
    return [
        [pair for pair in pairs if first[b, pair[0]] and second[b, pair[1]]]
        for b in range(contract.BATCH)
    ]


def _dc_loss(views, pairs, batch, threshold=0.3, temperature=0.1):
    """Equations 5 to 8 in float64, and the number of anchors."""
    valid = _whole(batch)
    bank = np.concatenate([v[0][m] for v, m in zip(views, valid)])
    bank_label = np.concatenate([v[1][m] for v, m in zip(views, valid)])
    total, anchors = 0.0, 0
    for b, places in enumerate(pairs):
        loss = 0.0
        for one, two in places:
            for i, j, p, q in ((0, 1, one, two), (1, 0, two, one)):
                anchor, label, low = (x[b, p] for x in views[i])
                positive, _, high = (x[b, q] for x in views[j])
                if not (low < high and high > threshold):
                    continue
                anchors += 1
                others = bank[bank_label != label].astype(np.float64)
                r = np.exp(anchor @ positive.astype(np.float64) / temperature)
                rest = np.exp(others @ anchor / temperature).sum()
                loss -= np.log(r / (r + rest))
        total += loss / max(len(places), 1)
    return total / len(pairs), anchors


def test_loss_is_that_of_the_paper():
    method = _make()
    batch = contract.batch_of(method)
    pairs = _partners(batch)
    loss, anchors = _dc_loss(_views(method, batch), pairs, batch)
    assert anchors > 3
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_unsup"], loss, rtol=1e-5)
    places = sum(map(len, pairs))
    np.testing.assert_allclose(logs["anchor_rate"], anchors / places)
    total = logs["loss_sup"] + method.unsup_weight * logs["loss_unsup"]
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)


@pytest.mark.parametrize("changes", [{"unsup_weight": 0}, {"start_steps": 1}])
def test_without_the_consistency_it_is_supervised_training(changes):
    """Bit for bit, also in the steps before it counts."""
    method, plain = _make(**changes), contract.make("supervised")
    batch = contract.batch_of(method)
    for m in (method, plain):
        contract.step(m, batch)
    for a, b in zip(
        contract.values(method.student), contract.values(plain.student)
    ):
        np.testing.assert_array_equal(a, b)
    assert method.position == 2 * contract.BATCH * PLACES


def test_one_crop_twice_teaches_nothing():
    """Equal confidences: neither is the anchor of the other."""
    method = _make()
    batch = contract.batch_of(method)
    unlabeled = batch["unlabeled"]
    unlabeled["second"] = unlabeled["first"].copy()
    unlabeled["matrix"][:] = np.eye(3)
    logs = contract.step(method, batch)
    assert float(logs["loss_unsup"]) == 0 and float(logs["anchor_rate"]) == 0


def test_the_bank_is_a_ring_of_what_was_seen():
    block = 2 * contract.BATCH * PLACES
    method = _make(bank_size=2 * block - 8)
    for number in range(3):
        batch = contract.batch_of(method, number)
        views = _views(method, batch)
        contract.step(method, batch)
        rows = (np.arange(block) + number * block) % (2 * block - 8)
        # An image's first crop, then its second one.
        features = np.concatenate([v[0] for v in views], 1)
        label = np.concatenate(
            [np.where(m, v[1], -1) for v, m in zip(views, _whole(batch))], 1
        )
        np.testing.assert_array_equal(
            method.bank_label.numpy()[rows], label.reshape(-1)
        )
        np.testing.assert_allclose(
            method.bank_features.numpy()[rows],
            features.reshape([block, -1]),
            atol=1e-6,
        )
        if number == 0:
            assert (method.bank_label.numpy()[block:] == -1).all()


def test_two_replicas_fill_the_bank_of_one():
    one, two = _make(num_negatives=5), _make(2, num_negatives=5)
    for method in (one, two):
        contract.fit(method, 3)
    np.testing.assert_allclose(
        one.bank_features.numpy(), two.bank_features.numpy(), atol=1e-5
    )
    np.testing.assert_array_equal(
        one.bank_label.numpy(), two.bank_label.numpy()
    )
    for a, b in zip(contract.values(one.student), contract.values(two.student)):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_some_places_of_each_crop_are_drawn():
    method = _make(num_negatives=5)
    batch = contract.batch_of(method)
    features = _views(method, batch)[0][0]
    contract.step(method, batch)
    assert method.position == 2 * contract.BATCH * 5
    rows = method.bank_features.numpy()[:5]
    distance = np.abs(rows[:, None] - features[0][None]).max(-1)
    assert sorted(set(distance.argmin(1))) == sorted(distance.argmin(1))
    assert distance.min(1).max() < 1e-6


def test_the_bank_is_in_the_checkpoint(tmp_path):
    first, second = _make(), _make()
    contract.step(first, contract.batch_of(first))
    path = tf.train.Checkpoint(method=first).save(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(method=second).restore(path)
    for name in ("bank_features", "bank_label", "position"):
        np.testing.assert_array_equal(
            getattr(first, name).numpy(), getattr(second, name).numpy()
        )
    assert first.position > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"contrast": False, "directional": False, "filter_positives": False},
        {"directional": False, "filter_negatives": False},
        {"filter_positives": False},
        {"projection": 0},
        {"projection_hidden": 4, "normalization": "active"},
    ],
)
def test_ablations_train(changes):
    method = _make(**changes)
    logs = contract.step(method, contract.batch_of(method))
    assert float(logs["loss_unsup"]) > 0
    channels = method.bank_features.shape[1]
    assert channels == (8 if changes.get("projection") == 0 else 128)


def test_a_bank_for_less_than_a_step_is_refused():
    method = _make(bank_size=100)
    with pytest.raises(ValueError, match="100.*Received: 128.*larger bank"):
        contract.step(method, contract.batch_of(method))


class Decoder(contract.Decoder):
    """Has weights before what the classifier sees, which is at stride 2."""

    def __init__(self):
        super().__init__()
        self.reduce = keras.layers.Conv2D(6, 2, strides=2)

    def embed(self, features, training=None):
        return self.reduce(features["stride1"])


def _labeled_batch(method, seed=0, *, batch_of=contract.batch_of):
    """With labels: of replicas and of crops, the first ones have fewer."""
    batch = batch_of(method, seed)
    draw = np.random.default_rng(100 + seed)
    for name, share in zip(CROPS, (0.3, 0.9)):
        valid = batch["unlabeled"][f"{name}_valid"]
        label = draw.integers(0, contract.CLASSES, valid.shape)
        label[~valid | (draw.uniform(size=valid.shape) > share)] = 255
        label[0] = 255
        batch["unlabeled"][f"{name}_label"] = label.astype(np.int32)
    return batch


@pytest.fixture
def weak(monkeypatch):
    """Makes a method with C_w, whose batches have labels."""

    def network(norm=False):
        return base.Network(contract.Encoder(norm), Decoder, contract.CLASSES)

    monkeypatch.setattr(contract, "build_network", network)
    monkeypatch.setattr(contract, "batch_of", _labeled_batch)
    yield functools.partial(_make, weak_weight=0.4, ramp_steps=0)
    keras.mixed_precision.set_global_policy("float32")


def _resized(x, size):
    """[B, size, size, C], bilinear, corners onto corners."""
    place = np.linspace(0, x.shape[1] - 1, size)[:, None]
    part = np.maximum(0, 1 - abs(place - np.arange(x.shape[1])))
    return np.einsum("yh,xw,bhwc->byxc", part, part, x)


def _weak_loss(method, batch):
    """L_w in float64: the mean over the labeled pixels of both crops."""
    kernel, bias = (v.numpy() for v in method.weak_classifier.variables)
    losses = []
    for name in CROPS:
        image = tf.constant(batch["unlabeled"][name])
        features = method.embed(image, training=True).numpy()
        logits = features.astype(np.float64) @ kernel[0, 0] + bias
        logits = _resized(logits, contract.SIZE)
        log_prob = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        label = batch["unlabeled"][f"{name}_label"]
        chosen = log_prob[label != 255]
        losses.extend(-chosen[np.arange(len(chosen)), label[label != 255]])
    return np.mean(losses)


def test_weak_loss_is_that_of_all_labeled_pixels(weak):
    method = weak()
    batch = contract.batch_of(method)
    loss = _weak_loss(method, batch)
    method.ramp.assign(0.25)
    logs = contract.step(method, batch)
    assert logs["loss_weak"].dtype == tf.float32
    np.testing.assert_allclose(logs["loss_weak"], loss, rtol=1e-5)
    total = logs["loss_sup"] + method.unsup_weight * logs["loss_unsup"]
    total += 0.25 * 0.4 * loss
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)


def test_weak_loss_reaches_all_but_the_classifier(weak):
    method = weak()
    unlabeled = contract.batch_of(method)["unlabeled"]
    decoder = method.student.decoder
    with tf.GradientTape() as tape:
        crops = (
            method.embed(tf.constant(unlabeled[x]), training=True)
            for x in CROPS
        )
        loss = method.loss_weak(unlabeled, *crops)
    parts = [method.student.encoder, decoder.reduce, method.weak_classifier]
    rest = [decoder.classifier, method.projector]
    found, none = tape.gradient(
        loss, [[x.trainable_variables for x in p] for p in (parts, rest)]
    )
    assert all(np.abs(g).max() > 0 for part in found for g in part)
    assert none == [[None, None], [None] * 4]


def _after_a_step(method, batch):
    """{name: values} of what two methods have in common."""
    contract.step(method, batch)
    return {
        "classifier": contract.values(method.student.decoder.classifier),
        "embed": contract.values(method.student.decoder.reduce),
        "encoder": contract.values(method.student.encoder),
        "projector": contract.values(method.projector),
        "bank": [method.bank_features.numpy(), method.bank_label.numpy()],
    }


def test_the_classifier_does_not_learn_from_weak_labels(weak):
    """Bit for bit; what comes before it does."""
    method, plain = weak(), weak(weak_weight=0.0)
    method.ramp.assign(1.0)
    batch = contract.batch_of(method)
    ours, theirs = (_after_a_step(m, batch) for m in (method, plain))
    for part in ours:
        same = [np.array_equal(*pair) for pair in zip(ours[part], theirs[part])]
        expected = part in ("classifier", "projector", "bank")
        assert same == [expected] * len(same), part


@pytest.mark.parametrize("part", ["ramp", "label"])
def test_with_no_weak_labels_it_is_semi_supervised_training(weak, part):
    """Ramp 0, and images of which no pixel has a label, bit for bit."""
    method, plain = weak(), weak(weak_weight=0.0)
    batch = contract.batch_of(method)
    if part == "label":
        method.ramp.assign(1.0)
        batch["unlabeled"]["first_label"][:] = 255
        batch["unlabeled"]["second_label"][:] = 255
    before = contract.values(method.weak_classifier)
    ours, theirs = (_after_a_step(m, batch) for m in (method, plain))
    ours["weak"] = contract.values(method.weak_classifier)
    theirs["weak"] = before
    tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)
    assert (float(method.metrics[-1].result()) == 0) == (part == "label")


@pytest.mark.parametrize("ramp_steps, ramp", [(4, np.exp(-2.5)), (0, 1.0)])
def test_the_weak_weight_grows(weak, ramp_steps, ramp):
    method = weak(ramp_steps=ramp_steps)
    assert method.ramp.numpy() == 0 and method.ramps == {"ramp": method.ramp}
    contract.fit(method, 3)
    np.testing.assert_allclose(method.ramp.numpy(), ramp, rtol=1e-6)


def test_two_replicas_learn_weak_labels_as_one(weak):
    one, two = weak(), weak(2)
    logs = [contract.fit(method, 3).history for method in (one, two)]
    assert set(logs[0]) == {*one.SCALARS} and one.SCALARS[-1] == "loss_weak"
    for key in logs[0]:
        np.testing.assert_allclose(logs[0][key], logs[1][key], atol=1e-6)
    for a, b in zip(one.trained, two.trained):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "precision, replicas", [("mixed_float16", 1), ("mixed_bfloat16", 2)]
)
def test_weak_labels_in_mixed_precision(weak, precision, replicas):
    keras.mixed_precision.set_global_policy(precision)
    method = weak(replicas, norm=True)
    before = contract.values(method.weak_classifier)
    logs = contract.fit(method).history
    assert np.isfinite([logs[key] for key in method.SCALARS]).all()
    method.raise_if_not_finite()
    for old, new in zip(before, contract.values(method.weak_classifier)):
        assert new.dtype == np.float32 and not np.array_equal(old, new)
    features = method.embed(tf.zeros([1, 8, 8, 3]))
    assert features.dtype == precision[len("mixed_") :]
    assert method.weak_classifier(features).dtype == tf.float32


def test_the_weak_classifier_is_in_the_checkpoint(weak, tmp_path):
    first, second, plain = weak(), weak(), weak(weak_weight=0.0)
    first.ramp.assign(1.0)
    contract.step(first, contract.batch_of(first))
    path = tf.train.Checkpoint(method=first).save(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(method=second).restore(path).assert_consumed()
    for a, b in zip(first.trained, second.trained):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert len(plain.variables) == len(first.variables) - 5
    assert plain.ramps == {} and plain.step_callbacks() == []


def test_the_weak_classifier_is_not_deployed(weak, tmp_path):
    method, plain = weak(), weak(weak_weight=0.0)
    assert list(method.networks.values()) == [method.student]
    shapes = [[v.shape for v in m.deployed.variables] for m in (method, plain)]
    assert shapes[0] == shapes[1]
    path = str(tmp_path / "export")
    export.export(method.deployed, export_test.INFO, path)
    loaded = tf.saved_model.load(path)
    assert [v.shape for v in loaded.network_variables] == shapes[0]
    image = contract.batch_of(method)["labeled"]["image"].astype(np.uint8)
    outputs = loaded.signatures["serving_default"](images=tf.constant(image))
    logits = method(image.astype(np.float32))
    np.testing.assert_allclose(
        outputs["probabilities"], tf.nn.softmax(logits), atol=1e-6
    )


@pytest.mark.parametrize(
    "option, value",
    [("weak_weight", -1.0), ("ramp_steps", -1), ("ramp", "steep")],
)
def test_a_bad_option_is_named(option, value):
    with pytest.raises(ValueError, match=f"method.{option}` must be .*{value}"):
        _make(**{option: value})
