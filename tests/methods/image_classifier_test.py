# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.methods import contract_test as contract
from tests.methods import shared
from tfseg import lookup, optimizers
from tfseg import strategy as strategies

CLASSES, SIZE, BATCH = 4, 16, 4


def _cam():
    return lookup.module("networks", "cam").build(
        num_classes=CLASSES, backbone={"name": "fcn", "width": 4}
    )


def _plain(norm=False):
    """Of the contract: its logits have a background that is not 0."""
    return contract.build_network(norm)


def _make(build_network=_cam, replicas=1, optimizer="sgd", pool_padding=False):
    with strategies.build("mirrored", replicas=replicas).scope():
        keras.utils.set_random_seed(1)
        method = lookup.module("methods", "image_classifier").build(
            build_network, seed=7, pool_padding=pool_padding
        )
        method.compile(
            optimizers.build(
                optimizer, learning_rate=0.05, coupled_weight_decay=True
            )
        )
        method.optimizer.build(method.trained)
    return method


@functools.lru_cache(maxsize=None)
def _built(build_network):
    made = _make(build_network)
    return shared.Shared("image_classifier", made)


def _batch(classes=CLASSES, size=SIZE, seed=0):
    """Padding at the bottom, and in the third image nothing else."""
    draw = np.random.default_rng(seed)
    image = draw.uniform(0, 255, (BATCH, size, size, 3)).astype(np.float32)
    valid = np.ones([BATCH, size, size], bool)
    valid[1, size // 2 :] = False
    valid[2] = False
    shown = draw.integers(0, 2, (BATCH, classes)).astype(np.float32)
    shown[:, 0] = 1
    return {"unlabeled": {"image": image, "valid": valid, "classes": shown}}


def _logits(network, image, training=True):
    features = network.encoder(image, training=training)
    embedding = network.decoder.embed(features, training=training)
    return network.decoder.logits(embedding, training=training).numpy()


def _oracle(maps, batch, pool_padding):
    """Loss and accuracy, in float64, one image after the other."""
    losses, right = [], []
    for logits, valid, shown in zip(
        maps[..., 1:].astype(np.float64),
        batch["unlabeled"]["valid"],
        batch["unlabeled"]["classes"][:, 1:],
    ):
        # The pixel at the middle of those that a value of the map stands for.
        step = len(valid) // len(logits)
        counted = valid[step // 2 :: step, step // 2 :: step] | pool_padding
        if not counted.any():
            continue
        score = logits[counted].mean(0)
        prob = 1 / (1 + np.exp(-score))
        losses.append(-np.log(np.where(shown == 1, prob, 1 - prob)).mean())
        right.append(((prob > 0.5) == (shown == 1)).mean())
    return np.mean(losses), np.mean(right)


def _step(method, batch, compiled=False):
    """One step; every replica has its part of the batch."""
    strategy = method.distribute_strategy
    count = strategy.num_replicas_in_sync

    def part(values):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                np.split(values, count)[context.replica_id_in_sync_group]
            )
        )

    def run(batch):
        return strategy.run(method.train_step, [batch])

    run = tf.function(run) if compiled else run
    run(tf.nest.map_structure(part, batch))
    return {metric.name: float(metric.result()) for metric in method.metrics}


@pytest.fixture(autouse=True)
def _float32():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("pool_padding", [False, True])
@pytest.mark.parametrize("build_network", [_cam, _plain])
def test_loss_is_that_of_the_mean_of_the_maps(
    build_network, pool_padding, monkeypatch
):
    method = _built(build_network).begin()
    monkeypatch.setattr(method, "pool_padding", pool_padding)
    batch = _batch(method.student.num_classes)
    maps = _logits(method.student, batch["unlabeled"]["image"])
    loss, accuracy = _oracle(maps, batch, pool_padding)
    logs = _step(method, batch)
    assert list(logs) == ["loss", "accuracy"]
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(logs["accuracy"], accuracy, rtol=1e-6)
    assert 0 < accuracy < 1 and int(method.step.numpy()) == 1


def test_scores_by_hand():
    """Maps of a constant: sigmoid cross-entropies of 0 and log 3."""
    method = _built(_plain).begin()
    classifier = method.student.decoder.classifier
    classifier.kernel.assign(tf.zeros_like(classifier.kernel))
    classifier.bias.assign([9.0, 0.0, np.log(3.0)])
    batch = _batch(contract.CLASSES)
    batch["unlabeled"]["valid"][:] = True
    batch["unlabeled"]["classes"][:] = [1, 1, 1]
    batch["unlabeled"]["classes"][0, 2] = 0
    logs = _step(method, batch)
    # 4 times log 2, 3 times log 4/3, once log 4.
    expected = (4 * np.log(2) + 3 * np.log(4 / 3) + np.log(4)) / 8
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    # A score of 0 is a no.
    np.testing.assert_allclose(logs["accuracy"], 3 / 8, rtol=1e-6)


def test_padding_is_not_seen_unless_it_is_pooled(monkeypatch):
    batch, other = _batch(contract.CLASSES), _batch(contract.CLASSES)
    # Two pixels from the border to what is valid, for a 3x3 convolution.
    other["unlabeled"]["image"][1, SIZE // 2 + 2 :] = 0
    other["unlabeled"]["image"][2] = 0
    losses = [[], []]
    for pool in (False, True):
        for each in (batch, other):
            method = _built(_plain).begin()
            monkeypatch.setattr(method, "pool_padding", pool)
            losses[pool].append(_step(method, each)["loss"])
    np.testing.assert_allclose(*losses[0], rtol=1e-6)
    assert losses[1][0] != losses[1][1]


def test_all_padding_teaches_nothing():
    method = _built(_plain).begin()
    before = contract.values(method.student)
    batch = _batch(contract.CLASSES)
    batch["unlabeled"]["valid"][:] = False
    assert _step(method, batch) == {"loss": 0, "accuracy": 0}
    for old, new in zip(before, contract.values(method.student)):
        np.testing.assert_array_equal(old, new)


def test_two_replicas_take_the_step_of_one():
    """The second one has an image that does not count."""
    one, two = _built(_plain).begin(), _make(_plain, 2)
    for seed in range(2):
        batch = _batch(contract.CLASSES, seed=seed)
        logs = [_step(method, batch) for method in (one, two)]
        for name in logs[0]:
            np.testing.assert_allclose(logs[0][name], logs[1][name], atol=1e-6)
    for a, b in zip(contract.values(one.student), contract.values(two.student)):
        np.testing.assert_allclose(a, b, atol=1e-6)


# The contract has the other number of replicas for each.
@pytest.mark.parametrize(
    "precision, replicas", [("mixed_float16", 1), ("mixed_bfloat16", 2)]
)
def test_step_in_half_precision(precision, replicas):
    keras.mixed_precision.set_global_policy(precision)
    method = _make(lambda: _plain(norm=True), replicas)
    before = contract.values(method.student)
    batch = _batch(contract.CLASSES)
    scores, counted = method.scores(
        batch["unlabeled"]["image"], batch["unlabeled"]["valid"]
    )
    assert scores.dtype == counted.dtype == tf.float32
    logs = _step(method, batch, compiled=True)
    assert np.isfinite(list(logs.values())).all()
    method.raise_if_not_finite()
    for old, new in zip(before, contract.values(method.student)):
        assert np.isfinite(new).all() and (old != new).any()


def test_learns_where_classes_are_though_no_pixel_is_labeled():
    method = _make(_plain, optimizer="adam")
    shown = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1], [1, 0, 0]], np.float32)
    draw = np.random.default_rng(0)
    image = draw.uniform(90, 110, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    # A class is a color, and has a place of its own.
    places = [slice(1, 6), slice(9, 14)]
    for k, place in enumerate(places):
        image[shown[:, k + 1] == 1, place, place, k] = 255
    batch = {"image": image, "classes": shown}
    batch["valid"] = np.ones(image.shape[:3], bool)
    batch = {"unlabeled": tf.nest.map_structure(tf.constant, batch)}
    step = tf.function(
        lambda: method.distribute_strategy.run(method.train_step, [batch])
    )
    for _ in range(60):
        method.reset_metrics()
        logs = step()
    assert logs["accuracy"] == 1 and logs["loss"] < 0.1
    maps = method.student(image).numpy()
    for index, k in np.argwhere(shown[:, 1:]):
        one = maps[index, ..., k + 1]
        assert one[places[k], places[k]].mean() > 0 > np.median(one)


def test_declares_its_batch_and_its_work():
    method = _make(_plain, pool_padding=True)
    assert method.pool_padding
    assert not _built(_plain).begin().pool_padding
    assert method.LABELED_VIEW is None and method.IMAGE_LABELED
    assert method.UNLABELED_VIEW == "plain"
    assert method.passes(0, 8) == [("train", 8)]
    assert method.networks == {"student": method.student}
