# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests.methods import contract_test as contract

PLACES = 16  # Of a crop: 8 x 8 pixels, pooled by 2.


def _make(replicas=1, **changes):
    options = {"start_steps": 0, "threshold": 0.3, "bank_size": 512}
    return contract.make("cac", replicas, **options | changes)


def _views(method, batch):
    """Numpy (features, label, confidence) of both crops, as places."""
    result = []
    for name in ("first", "second"):
        view = method.look(tf.constant(batch["unlabeled"][name]))
        features, label, confidence = (x.numpy() for x in view)
        shape = [contract.BATCH, PLACES]
        result.append(
            (
                features.reshape([*shape, -1]),
                label.reshape(shape),
                confidence.reshape(shape),
            )
        )
    return result


def _whole(valid):
    """bool [B, 4, 4]: squares of four pixels without padding."""
    return valid.reshape([-1, 4, 2, 4, 2]).all((2, 4))


def _partners(batch):
    """For each image: pairs (place in the first crop, in the second)."""
    unlabeled = batch["unlabeled"]
    first, second = (
        _whole(unlabeled[f"{name}_valid"]) for name in ("first", "second")
    )
    pairs = []
    for b in range(contract.BATCH):
        # Columns 2 and 3 of the first crop are 3 and 2 of the second.
        pairs.append(
            [
                (4 * y + x, 4 * y + 5 - x)
                for y in range(4)
                for x in (2, 3)
                if first[b, y, x] and second[b, y, 5 - x]
            ]
        )
    return pairs


def _dc_loss(views, pairs, batch, threshold=0.3, temperature=0.1):
    """Equations 5 to 8 in float64, and the number of anchors."""
    valid = [
        _whole(batch["unlabeled"][f"{name}_valid"]).reshape([-1, PLACES])
        for name in ("first", "second")
    ]
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
    np.testing.assert_allclose(
        logs["loss"], logs["loss_sup"] + 0.1 * logs["loss_unsup"], rtol=1e-5
    )


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
        valid = [
            _whole(batch["unlabeled"][f"{name}_valid"]).reshape([-1, PLACES])
            for name in ("first", "second")
        ]
        contract.step(method, batch)
        rows = (np.arange(block) + number * block) % (2 * block - 8)
        # An image's first crop, then its second one.
        features = np.concatenate([v[0] for v in views], 1)
        label = np.concatenate(
            [np.where(m, v[1], -1) for v, m in zip(views, valid)], 1
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
