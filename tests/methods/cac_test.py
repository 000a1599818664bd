# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests.methods import contract_test as contract
from tests.methods import shared

CROPS = ("first", "second")
PLACES = 16  # Of a crop: 8 x 8 pixels, pooled by 2.
BLOCK = 2 * contract.BATCH * PLACES  # Of a step.
BANK = 2 * BLOCK - 8


def make(replicas=1, **changes):
    options = {"start_steps": 0, "threshold": 0.3, "bank_size": BANK}
    return contract.make("cac", replicas, **options | changes)


@pytest.fixture(name="built", scope="module")
def _built():
    """Begins the method of `make` anew."""
    return shared.Shared("cac", make())


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


def test_loss_is_that_of_the_paper(built):
    method = built.begin()
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


def test_without_the_consistency_it_is_supervised_training(built, monkeypatch):
    """Bit for bit, also in the steps before it counts."""
    plain = contract.make("supervised")
    batch = contract.batch_of(built.begin())
    contract.step(plain, batch)
    for option, value in (("unsup_weight", 0), ("start_steps", 1)):
        method = built.begin()
        with monkeypatch.context() as patch:
            patch.setattr(method, option, value)
            contract.step(method, batch)
        for a, b in zip(
            contract.values(method.student), contract.values(plain.student)
        ):
            np.testing.assert_array_equal(a, b, option)
        assert method.position == BLOCK


def test_options_are_the_attributes_that_these_tests_set():
    changes = {
        "unsup_weight": 2.0,
        "start_steps": 3,
        "num_negatives": 5,
        "ramp_steps": 4,
    }
    method = make(**changes)
    assert {name: getattr(method, name) for name in changes} == changes


def test_one_crop_twice_teaches_nothing(built):
    """Equal confidences: neither is the anchor of the other."""
    method = built.begin()
    batch = contract.batch_of(method)
    unlabeled = batch["unlabeled"]
    unlabeled["second"] = unlabeled["first"].copy()
    unlabeled["matrix"][:] = np.eye(3)
    logs = contract.step(method, batch)
    assert float(logs["loss_unsup"]) == 0 and float(logs["anchor_rate"]) == 0


def test_the_bank_is_a_ring_of_what_was_seen(built):
    method = built.begin()
    for number in range(3):
        batch = contract.batch_of(method, number)
        views = _views(method, batch)
        contract.step(method, batch)
        rows = (np.arange(BLOCK) + number * BLOCK) % BANK
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
            features.reshape([BLOCK, -1]),
            atol=1e-6,
        )
        if number == 0:
            assert (method.bank_label.numpy()[BLOCK:] == -1).all()


def test_some_places_of_each_crop_are_drawn(built, monkeypatch):
    method = built.begin()
    monkeypatch.setattr(method, "num_negatives", 5)
    batch = contract.batch_of(method)
    features = _views(method, batch)[0][0]
    contract.step(method, batch)
    assert method.position == 2 * contract.BATCH * 5
    rows = method.bank_features.numpy()[:5]
    distance = np.abs(rows[:, None] - features[0][None]).max(-1)
    assert sorted(set(distance.argmin(1))) == sorted(distance.argmin(1))
    assert distance.min(1).max() < 1e-6


def test_the_bank_is_in_the_checkpoint(built, tmp_path):
    first, second = built.begin(), make()
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
    method = make(**changes)
    logs = contract.step(method, contract.batch_of(method))
    assert float(logs["loss_unsup"]) > 0
    channels = method.bank_features.shape[1]
    assert channels == (8 if changes.get("projection") == 0 else 128)


def test_a_bank_for_less_than_a_step_is_refused():
    method = make(bank_size=100)
    with pytest.raises(ValueError, match="100.*Received: 128.*larger bank"):
        contract.step(method, contract.batch_of(method))


@pytest.mark.parametrize(
    "option, value",
    [("weak_weight", -1.0), ("ramp_steps", -1), ("ramp", "steep")],
)
def test_a_bad_option_is_named(option, value):
    with pytest.raises(ValueError, match=f"method.{option}` must be .*{value}"):
        make(**{option: value})
