# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.ops import losses

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])


def loss_and_gradient(wrap, logits, label, **options):
    logits = tf.convert_to_tensor(logits)

    @wrap
    def run(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = losses.cross_entropy(logits, label, **options)
        return loss, tape.gradient(loss, logits)

    loss, gradient = run(logits)
    assert loss.dtype == tf.float32
    return loss.numpy(), tf.cast(gradient, tf.float32).numpy()


@CALLS
@pytest.mark.parametrize(
    "logits,label,name",
    [
        ("logits", "labels", ""),
        ("logits", "labels_ignore", "_ignore"),
        ("logits", "labels_one", "_one"),
        ("logits_big", "labels_ignore", "_big"),
    ],
)
def test_agrees_with_official_code(wrap, logits, label, name):
    data = golden.load("ce_ignore")
    loss, gradient = loss_and_gradient(wrap, data[logits], data[label])
    np.testing.assert_allclose(loss, data[f"loss{name}"], rtol=1e-5)
    np.testing.assert_allclose(gradient, data[f"grad{name}"], atol=1e-7)


@CALLS
def test_all_ignored_gives_zero_and_no_gradient(wrap):
    data = golden.load("ce_ignore")
    label = np.full_like(data["labels"], 255)
    loss, gradient = loss_and_gradient(wrap, data["logits"], label)
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


@CALLS
def test_hand_value(wrap):
    # Two pixels of two classes. Pixel 0: logits (0, 0), -log 1/2 = log 2.
    # Pixel 1: logits (log 3, 0), class 0: -log 3/4 = log 4/3.
    logits = np.log([[[[1, 1], [3, 1]]]]).astype(np.float32)
    label = np.array([[[1, 0]]])
    loss, _ = loss_and_gradient(wrap, logits, label)
    np.testing.assert_allclose(loss, (np.log(2) + np.log(4 / 3)) / 2, rtol=1e-6)
    # Weights multiply the loss, not the denominator, which is still 2.
    weight = np.array([[[0.5, 0]]])
    loss, _ = loss_and_gradient(wrap, logits, label, weight=weight)
    np.testing.assert_allclose(loss, 0.5 * np.log(2) / 2, rtol=1e-6)
    loss, _ = loss_and_gradient(wrap, logits, label, weight=weight > 0)
    np.testing.assert_allclose(loss, np.log(2) / 2, rtol=1e-6)


@CALLS
def test_garbage_at_ignored_pixels_reaches_neither_loss_nor_gradient(wrap):
    logits = np.zeros([1, 1, 3, 2], np.float32)
    logits[0, 0, 1:] = [[np.nan, 1], [np.inf, -np.inf]]
    label = np.array([[[1, 255, 255]]], np.uint8)
    loss, gradient = loss_and_gradient(wrap, logits, label)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    # softmax - onehot = (1/2, 1/2) - (0, 1) at the one valid pixel.
    np.testing.assert_allclose(
        gradient[0, 0], [[0.5, -0.5], [0, 0], [0, 0]], rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@CALLS
def test_half_precision_is_computed_in_float32(wrap, dtype):
    logits = tf.cast([[[[8.0, 0.0]] * 4096]], dtype)
    label = np.ones([1, 1, 4096], np.int32)
    loss, gradient = loss_and_gradient(wrap, logits, label)
    # 4096 * 8.000335 would be coarse in float16 and inexact in bfloat16.
    np.testing.assert_allclose(loss, 8 + np.log1p(np.exp(-8)), rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_normalizer_makes_two_replicas_equal_one():
    random = np.random.default_rng(0)
    logits = random.normal(size=[2, 3, 4, 5]).astype(np.float32)
    label = random.integers(0, 5, [2, 3, 4])
    label[1, :, 1:] = 255
    counts = [losses.num_valid(part) for part in label]
    assert [float(count) for count in counts] == [12, 3]
    mean = sum(counts) / 2
    parts = [
        losses.cross_entropy(
            logits[i : i + 1], label[i : i + 1], normalizer=mean
        )
        for i in range(2)
    ]
    whole = losses.cross_entropy(logits, label)
    np.testing.assert_allclose(sum(parts) / 2, whole, rtol=1e-6)


def test_appending_ignored_pixels_changes_nothing():
    data = golden.load("ce_ignore")
    logits = np.pad(data["logits"], [(0, 0), (0, 3), (0, 2), (0, 0)])
    label = np.pad(
        data["labels"], [(0, 0), (0, 3), (0, 2)], constant_values=255
    )
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label), data["loss"], rtol=1e-6
    )


def test_wrong_rank_is_refused():
    logits, label = np.zeros([2, 3, 3, 4]), np.zeros([2, 3, 3], int)
    with pytest.raises(ValueError, match="`label`"):
        losses.cross_entropy(logits, label[..., None])
    with pytest.raises(ValueError, match="`weight`"):
        losses.cross_entropy(logits, label, weight=label[..., None])
    with pytest.raises(ValueError, match="`logits`"):
        losses.cross_entropy(logits[0], label)
    with pytest.raises(ValueError, match="`mask`"):
        losses.masked_mean(label, label[..., None])


@CALLS
def test_masked_mean(wrap):
    mean = wrap(losses.masked_mean)
    values = tf.constant([[1.0, np.nan], [4.0, 10.0]])
    # (1 + 4) / 2; with half the weight on 4: (1 + 2) / 1.5 = 2.
    assert mean(values, tf.constant([[True, False], [True, False]])) == 2.5
    assert mean(values, tf.constant([[1.0, 0.0], [0.5, 0.0]])) == 2
    assert mean(values, tf.zeros([2, 2], tf.bool)) == 0
    half = tf.cast(values, tf.float16)
    assert mean(half, tf.constant([[True, False]] * 2)).dtype == tf.float32


def test_masked_mean_has_no_gradient_where_the_mask_is_empty():
    values = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        mean = losses.masked_mean(values, tf.zeros([2]))
    np.testing.assert_array_equal(tape.gradient(mean, values), 0)


def _ohem(logits, label, **options):
    options = {"threshold": 0.7, "min_kept": 5} | options
    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.ohem_cross_entropy(logits, label, **options)
    return loss, tape.gradient(loss, logits)


@CALLS
def test_ohem_agrees_with_official_code(wrap):
    data = golden.load("ohem")
    for i, min_kept in enumerate(data["min_keeps"]):
        if min_kept == 0:
            continue
        run = wrap(
            lambda z, k=int(min_kept): _ohem(z, data["labels"], min_kept=k)
        )
        loss, gradient = run(data["logits"])
        np.testing.assert_allclose(loss, data["losses"][i], rtol=1e-5)
        np.testing.assert_allclose(gradient, data["grads"][i], atol=1e-7)
        kept = np.any(gradient.numpy() != 0, -1)
        np.testing.assert_array_equal(kept, data["kept"][i])
    for i, threshold in enumerate(data["thresholds"]):
        loss, gradient = _ohem(
            data["logits"], data["labels"], threshold=float(threshold)
        )
        np.testing.assert_allclose(loss, data["losses_t"][i], rtol=1e-5)
        np.testing.assert_allclose(gradient, data["grads_t"][i], atol=1e-7)


@CALLS
def test_ohem_by_hand(wrap):
    # True-class probabilities 0.9, 0.75, 0.25, and one ignored.
    prob = np.array([0.9, 0.75, 0.25, 0.1])
    logits = np.log(np.stack([prob, 1 - prob], -1))[None, None]
    logits = logits.astype(np.float32)
    label = np.array([[[0, 0, 0, 255]]])
    run = wrap(
        lambda k: losses.ohem_cross_entropy(
            logits, label, threshold=0.7, min_kept=k
        )
    )
    hard = -np.log([0.25, 0.75, 0.9])
    for min_kept, expected in [
        (0, hard[0]),
        (1, hard[0]),
        (2, hard[:2].mean()),
        (3, hard.mean()),
        # More than there are valid pixels, and than there are pixels.
        (4, hard.mean()),
        (100, hard.mean()),
    ]:
        np.testing.assert_allclose(run(min_kept), expected, rtol=1e-5)


@CALLS
def test_ohem_of_nothing_is_zero(wrap):
    logits = np.random.default_rng(0).normal(size=(1, 2, 3, 4))
    label = np.full((1, 2, 3), 255)
    for min_kept in (0, 4):
        loss, gradient = wrap(
            lambda z, k=min_kept: _ohem(z, label, min_kept=k)
        )(logits.astype(np.float32))
        assert loss == 0 and not np.any(gradient)


def _bootstrapped(logits, label, threshold, **options):
    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.bootstrapped_cross_entropy(
            logits, label, threshold, **options
        )
    return loss, tape.gradient(loss, logits)


def _bootstrapped_oracle(logits, label, threshold, min_kept):
    """Loss, and which pixels are kept; after sorting, as the official code."""
    power = np.exp(logits.astype(np.float64))
    prob = power / power.sum(-1, keepdims=True)
    valid = label != 255
    true = np.where(valid, label, 0)[..., np.newaxis]
    prob = np.take_along_axis(prob, true, -1)[..., 0]
    order = np.sort(prob[valid])
    if order.size:
        place = min(len(label) * min_kept, order.size - 1)
        threshold = max(threshold, order[place])
    kept = valid & (prob < threshold)
    return (-np.log(prob[kept]).mean() if kept.any() else 0.0), kept


@CALLS
@pytest.mark.parametrize("min_kept", [0, 1, 3, 1000])
def test_bootstrapped_agrees_with_oracle(wrap, min_kept):
    run = wrap(lambda *args: _bootstrapped(*args, min_kept=min_kept))
    random = np.random.default_rng(0)
    logits = (random.normal(size=(2, 6, 7, 5)) * 2).astype(np.float32)
    for num_valid in (0, 1, 2, 3, 9, 84):
        label = np.full(84, 255)
        places = random.permutation(84)[:num_valid]
        label[places] = random.integers(0, 5, num_valid)
        label = label.reshape(2, 6, 7)
        for threshold in (0.0, 1 / 5, 0.6, 0.894257, 1.0):
            loss, gradient = run(
                tf.constant(logits), tf.constant(label), tf.constant(threshold)
            )
            expected, kept = _bootstrapped_oracle(
                logits, label, np.float32(threshold), min_kept
            )
            np.testing.assert_allclose(loss, expected, rtol=1e-5)
            np.testing.assert_array_equal(np.any(gradient != 0, -1), kept)


@CALLS
def test_bootstrapped_by_hand(wrap):
    # True-class probabilities of one image, the last pixel ignored.
    prob = np.array([0.9, 0.75, 0.25, 0.5, 0.1])
    logits = np.log(np.stack([prob, 1 - prob], -1))[np.newaxis, np.newaxis]
    label = np.array([[[0, 0, 0, 0, 255]]])
    run = wrap(
        lambda t, k: losses.bootstrapped_cross_entropy(
            logits, label, t, min_kept=k
        )
    )
    worst = np.cumsum(-np.log([0.25, 0.5, 0.75, 0.9])) / [1, 2, 3, 4]
    for threshold, min_kept, expected in [
        (0.6, 1, worst[1]),
        (0.95, 1, worst[3]),
        # Below the threshold lies none: the worst pixel alone.
        (0.1, 1, worst[0]),
        (0.1, 2, worst[1]),
        (0.1, 0, 0),
        # All but the best one, as many as they are.
        (0.1, 4, worst[2]),
        (0.1, 100, worst[2]),
    ]:
        loss = run(tf.constant(threshold), tf.constant(min_kept))
        assert loss.dtype == tf.float32
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_bootstrapped_pixel_at_the_threshold_is_not_kept():
    # Probability 1/2, exactly.
    logits, label = np.zeros([1, 1, 2, 2], np.float32), np.zeros([1, 1, 2], int)
    for threshold, expected in ((0.5, 0), (0.500001, np.log(2))):
        loss, _ = _bootstrapped(logits, label, threshold)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_bootstrapped_half_precision_and_compiled(dtype):
    logits = tf.cast(np.random.default_rng(0).normal(size=(2, 5, 4, 3)), dtype)
    label = np.random.default_rng(1).integers(0, 3, (2, 5, 4))
    label[0, 0] = 255
    expected, _ = _bootstrapped_oracle(
        tf.cast(logits, tf.float32).numpy(), label, 0.3, 1
    )
    run = tf.function(lambda z, t: _bootstrapped(z, label, t), jit_compile=True)
    loss, gradient = run(logits, tf.constant(0.3))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert loss.dtype == tf.float32 and gradient.dtype == dtype


def test_bootstrapped_garbage_at_ignored_pixels_does_no_harm():
    logits = np.zeros([1, 1, 2, 2], np.float32)
    logits[0, 0, 1] = np.nan
    label = np.array([[[1, 255]]], np.uint8)
    loss, gradient = _bootstrapped(logits, label, 0.9)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(gradient[0, 0], [[0.5, -0.5], [0, 0]])
    with pytest.raises(ValueError, match="`label`"):
        losses.bootstrapped_cross_entropy(logits, label[0], 0.5)
