# SPDX-License-Identifier: Apache-2.0
"""`cac` whose unlabeled images have weak labels."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests import export_test
from tests.methods import cac_test
from tests.methods import contract_test as contract
from tests.methods import shared
from tfseg import export
from tfseg.networks import base


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
    for name, share in zip(cac_test.CROPS, (0.3, 0.9)):
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
    yield functools.partial(cac_test.make, weak_weight=0.4, ramp_steps=0)
    keras.mixed_precision.set_global_policy("float32")


@functools.lru_cache(maxsize=None)
def _built_weak(weak_weight):
    """A method of `weak`, in whose tests alone it may be built."""
    made = cac_test.make(weak_weight=weak_weight, ramp_steps=0)
    return shared.Shared("cac", made)


@pytest.fixture
def pair(weak):
    """A method with C_w and one without, begun anew."""
    return _built_weak(0.4).begin(), _built_weak(0.0).begin()


def _resized(x, size):
    """[B, size, size, C], bilinear, corners onto corners."""
    place = np.linspace(0, x.shape[1] - 1, size)[:, None]
    part = np.maximum(0, 1 - abs(place - np.arange(x.shape[1])))
    return np.einsum("yh,xw,bhwc->byxc", part, part, x)


def _weak_loss(method, batch):
    """L_w in float64: the mean over the labeled pixels of both crops."""
    kernel, bias = (v.numpy() for v in method.weak_classifier.variables)
    losses = []
    for name in cac_test.CROPS:
        image = tf.constant(batch["unlabeled"][name])
        features = method.embed(image, training=True).numpy()
        logits = features.astype(np.float64) @ kernel[0, 0] + bias
        logits = _resized(logits, contract.SIZE)
        log_prob = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        label = batch["unlabeled"][f"{name}_label"]
        chosen = log_prob[label != 255]
        losses.extend(-chosen[np.arange(len(chosen)), label[label != 255]])
    return np.mean(losses)


def test_weak_loss_is_that_of_all_labeled_pixels(pair):
    method, _ = pair
    batch = contract.batch_of(method)
    loss = _weak_loss(method, batch)
    method.ramp.assign(0.25)
    logs = contract.step(method, batch)
    assert logs["loss_weak"].dtype == tf.float32
    np.testing.assert_allclose(logs["loss_weak"], loss, rtol=1e-5)
    total = logs["loss_sup"] + method.unsup_weight * logs["loss_unsup"]
    total += 0.25 * 0.4 * loss
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)


def test_weak_loss_reaches_all_but_the_classifier(pair):
    method, _ = pair
    unlabeled = contract.batch_of(method)["unlabeled"]
    decoder = method.student.decoder
    with tf.GradientTape() as tape:
        crops = (
            method.embed(tf.constant(unlabeled[x]), training=True)
            for x in cac_test.CROPS
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


def test_the_classifier_does_not_learn_from_weak_labels(pair):
    """Bit for bit; what comes before it does."""
    method, plain = pair
    method.ramp.assign(1.0)
    batch = contract.batch_of(method)
    ours, theirs = (_after_a_step(m, batch) for m in (method, plain))
    for part in ours:
        same = [np.array_equal(*pair) for pair in zip(ours[part], theirs[part])]
        expected = part in ("classifier", "projector", "bank")
        assert same == [expected] * len(same), part


@pytest.mark.parametrize("part", ["ramp", "label"])
def test_with_no_weak_labels_it_is_semi_supervised_training(pair, part):
    """Ramp 0, and images of which no pixel has a label, bit for bit."""
    method, plain = pair
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
def test_the_weak_weight_grows(pair, ramp_steps, ramp, monkeypatch):
    method, _ = pair
    monkeypatch.setattr(method, "ramp_steps", ramp_steps)
    assert method.ramp.numpy() == 0 and method.ramps == {"ramp": method.ramp}
    contract.fit(method, 3)
    np.testing.assert_allclose(method.ramp.numpy(), ramp, rtol=1e-6)


def test_two_replicas_learn_weak_labels_and_fill_the_bank_as_one(weak):
    one, two = weak(num_negatives=5), weak(2, num_negatives=5)
    logs = [contract.fit(method, 3).history for method in (one, two)]
    assert set(logs[0]) == {*one.SCALARS} and one.SCALARS[-1] == "loss_weak"
    for key in logs[0]:
        np.testing.assert_allclose(logs[0][key], logs[1][key], atol=1e-6)
    for a, b in zip(one.trained, two.trained):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    np.testing.assert_allclose(one.bank_features, two.bank_features, atol=1e-5)
    np.testing.assert_array_equal(one.bank_label, two.bank_label)


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


def test_the_weak_classifier_is_in_the_checkpoint(weak, pair, tmp_path):
    (first, plain), second = pair, weak()
    first.ramp.assign(1.0)
    contract.step(first, contract.batch_of(first))
    path = tf.train.Checkpoint(method=first).save(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(method=second).restore(path).assert_consumed()
    for a, b in zip(first.trained, second.trained):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert len(plain.variables) == len(first.variables) - 5
    assert plain.ramps == {} and plain.step_callbacks() == []


def test_the_weak_classifier_is_not_deployed(pair, tmp_path):
    method, plain = pair
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
