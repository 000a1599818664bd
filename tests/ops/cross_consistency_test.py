# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops import consistency, cross_consistency

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
NAMES = pytest.mark.parametrize("name", cross_consistency.NAMES)
# Logits of probabilities (1/4, 3/4); a target of (1/2, 1/2).
QUARTER = np.log([[[[1, 3]]]]).astype(np.float32)
HALF = np.full([1, 1, 1, 2], 0.5, np.float32)


def softmax(logits):
    power = np.exp(logits - logits.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def divergence(p, q):
    """KL(p || q) of each pixel; nothing where p is 0."""
    safe = np.where(p > 0, p, 1)
    return np.where(p > 0, p * (np.log(safe) - np.log(q)), 0).sum(-1)


def oracle(name, logits, target):
    """Each pixel's distance, in float64."""
    target = np.asarray(target, np.float64)
    prob = softmax(np.asarray(logits, np.float64))
    middle = (prob + target) / 2
    if name == "mse":
        return np.square(prob - target).sum(-1)
    if name == "kl":
        return divergence(target, prob)
    pairs = {
        "js": [(target, middle), (prob, middle)],
        "reversed_js": [(middle, target + 1e-5), (middle, prob)],
    }
    return sum(divergence(p, q) for p, q in pairs[name]) / 2


def predictions(seed=0, shape=(2, 3, 4, 5)):
    """Logits and a target, of which one class is impossible at a pixel."""
    random = np.random.default_rng(seed)
    logits, target = random.normal(size=(2, *shape)) * 2
    target = softmax(target)
    target[0, 0, 0, 1] = 0
    target[0, 0, 0] /= target[0, 0, 0].sum()
    return logits.astype(np.float32), target.astype(np.float32)


def numeric_gradient(function, values, step=1e-5):
    """Central differences in float64."""
    values = np.asarray(values, np.float64)
    gradient = np.zeros_like(values)
    for place in np.ndindex(*values.shape):
        change = np.zeros_like(values)
        change[place] = step
        difference = function(values + change) - function(values - change)
        gradient[place] = difference / (2 * step)
    return gradient


def loss_and_gradient(wrap, name, logits, target, mask=None, **options):
    @wrap
    def run(logits, target):
        with tf.GradientTape() as tape:
            tape.watch([logits, target])
            loss = cross_consistency.cross_consistency(
                name, logits, target, mask, **options
            )
        return loss, *tape.gradient(loss, [logits, target])

    loss, gradient, of_target = run(
        tf.convert_to_tensor(logits), tf.convert_to_tensor(target)
    )
    assert of_target is None
    assert loss.dtype == tf.float32 and loss.shape == ()
    return loss.numpy(), tf.cast(gradient, tf.float32).numpy()


@CALLS
@NAMES
def test_agrees_with_oracle(wrap, name):
    logits, target = predictions()
    distance = wrap(lambda x, y: cross_consistency.distance(name, x, y))(
        logits, target
    )
    assert distance.dtype == tf.float32
    expected = oracle(name, logits, target)
    np.testing.assert_allclose(distance, expected, rtol=2e-5, atol=1e-6)
    loss, gradient = loss_and_gradient(wrap, name, logits, target)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        gradient,
        numeric_gradient(lambda x: oracle(name, x, target).mean(), logits),
        atol=1e-6,
    )


@CALLS
@pytest.mark.parametrize(
    "name,expected",
    [
        # (1/4 - 1/2)^2 + (3/4 - 1/2)^2
        ("mse", 1 / 8),
        # 1/2 log 2 + 1/2 log 2/3
        ("kl", 0.5 * np.log(4 / 3)),
        # The mean is (3/8, 5/8). Of the target, 1/2 log 4/3 + 1/2 log 4/5;
        # of the prediction, 1/4 log 2/3 + 3/4 log 6/5.
        (
            "js",
            0.25 * np.log(16 / 15)
            + 0.125 * np.log(2 / 3)
            + 0.375 * np.log(6 / 5),
        ),
        # 3/8 log 3/4 + 5/8 log 5/4 and 3/8 log 3/2 + 5/8 log 5/6, up to 1e-5.
        (
            "reversed_js",
            0.1875 * np.log(9 / 8) + 0.3125 * np.log(25 / 24),
        ),
    ],
)
def test_hand_value(wrap, name, expected):
    loss, _ = loss_and_gradient(wrap, name, QUARTER, HALF)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1.1e-5)
    # The official normalizer counts both classes.
    halved, _ = loss_and_gradient(wrap, name, QUARTER, HALF, over_classes=True)
    np.testing.assert_allclose(halved, loss / 2, rtol=1e-6)


@NAMES
def test_equal_predictions(name):
    logits, _ = predictions()
    distance = cross_consistency.distance(name, logits, softmax(logits))
    # 5 classes times the official 1e-5, in one of two halves.
    atol = 2.6e-5 if name == "reversed_js" else 1e-6
    np.testing.assert_allclose(distance, 0, atol=atol)


def test_js_is_symmetric_and_bounded():
    a, b = np.random.default_rng(0).normal(size=(2, 2, 6, 7, 5)) * 5
    there = cross_consistency.distance("js", a, softmax(b))
    back = cross_consistency.distance("js", b, softmax(a))
    np.testing.assert_allclose(there, back, atol=1e-6)
    assert np.all(there >= -1e-6) and np.all(there <= np.log(2) + 1e-6)
    opposite = tf.constant([[[[200.0, -200.0]]]])
    target = tf.constant([[[[0.0, 1.0]]]])
    np.testing.assert_allclose(
        cross_consistency.distance("js", opposite, target), np.log(2), rtol=1e-6
    )


@CALLS
@NAMES
def test_certain_predictions_give_finite_loss_and_gradient(wrap, name):
    # softmax(+-200) is exactly 0 and 1 in float32.
    logits = tf.constant([[[[200.0, -200.0, 0.0]] * 2]])
    target = tf.constant([[[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]])
    loss, gradient = loss_and_gradient(wrap, name, logits, target)
    assert np.isfinite(loss) and np.isfinite(gradient).all()


@CALLS
@NAMES
def test_mask_takes_the_mean_over_its_pixels(wrap, name):
    logits, target = predictions(1)
    mask = np.random.default_rng(2).random(target.shape[:-1]) < 0.4
    loss, gradient = loss_and_gradient(wrap, name, logits, target, mask)
    np.testing.assert_allclose(
        loss, oracle(name, logits, target)[mask].mean(), rtol=1e-5
    )
    assert not gradient[~mask].any() and gradient[mask].all()


@CALLS
@NAMES
@pytest.mark.parametrize("over_classes", [False, True])
def test_empty_mask_gives_zero_and_no_gradient(wrap, name, over_classes):
    logits, target = predictions(1)
    loss, gradient = loss_and_gradient(
        wrap,
        name,
        logits,
        target,
        np.zeros(target.shape[:-1], bool),
        over_classes=over_classes,
    )
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


@CALLS
def test_confident_is_strictly_above(wrap):
    target = np.array([[[[0.5, 0.5, 0], [0.5625, 0.4375, 0], [0, 0, 1]]]])
    run = wrap(cross_consistency.confident)
    np.testing.assert_array_equal(run(target), [[[False, True, True]]])
    mask = wrap(lambda x: cross_consistency.confident(x, 0.9))(target)
    np.testing.assert_array_equal(mask, [[[False, False, True]]])


def test_official_masked_kl_is_a_mean_over_all_pixels():
    logits, target = predictions(3)
    mask = cross_consistency.confident(target, 0.5)
    expected = oracle("kl", logits, target)[mask.numpy()].sum() / (2 * 3 * 4)
    distance = cross_consistency.distance("kl", logits, target)
    loss = consistency.consistency(distance, mask, 1.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@NAMES
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    logits, target = (tf.cast(x, dtype) for x in predictions())
    loss, gradient = loss_and_gradient(lambda f: f, name, logits, target)
    exact = [tf.cast(x, tf.float32).numpy() for x in (logits, target)]
    np.testing.assert_allclose(loss, oracle(name, *exact).mean(), rtol=1e-5)
    assert np.isfinite(gradient).all()


def variance(outputs):
    return softmax(np.asarray(outputs, np.float64)).var(0).sum(-1).mean()


@CALLS
def test_pairwise_agrees_with_oracle(wrap):
    outputs = np.random.default_rng(0).normal(size=(4, 2, 3, 2, 5)) * 2

    @wrap
    def run(outputs):
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loss = cross_consistency.pairwise(outputs, [1, 2])
        return loss, tape.gradient(loss, outputs)

    loss, gradient = run(tf.constant(outputs, tf.float32))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, variance(outputs), rtol=1e-5)
    np.testing.assert_allclose(
        gradient, numeric_gradient(variance, outputs), atol=1e-6
    )


def test_pairwise_by_hand():
    # (1/4, 3/4) and (1/2, 1/2) are each 1/8 from their mean, in both classes.
    outputs = np.stack([QUARTER, np.log(HALF)])
    loss = cross_consistency.pairwise(outputs, [1, 2])
    np.testing.assert_allclose(loss, 2 / 64, rtol=1e-5)
    assert cross_consistency.pairwise(outputs[:1], [1, 2]) == 0
    # A second pixel where they agree halves the mean, unless it is masked.
    outputs = np.concatenate([outputs, np.zeros_like(outputs)], 3)
    halved = cross_consistency.pairwise(outputs, [1, 2])
    np.testing.assert_allclose(halved, 1 / 64, rtol=1e-5)
    first = np.array([[[True, False]]])
    loss = cross_consistency.pairwise(outputs, [1, 2], first)
    np.testing.assert_allclose(loss, 2 / 64, rtol=1e-5)
    assert cross_consistency.pairwise(outputs, [1, 2], first & False) == 0


def test_pairwise_takes_a_random_subset():
    random = np.random.default_rng(1)
    outputs = tf.constant(random.normal(size=(5, 1, 2, 2, 3)), tf.float32)

    @tf.function
    def used(seed):
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loss = cross_consistency.pairwise(outputs, seed, num_outputs=2)
        gradient = tf.convert_to_tensor(tape.gradient(loss, outputs))
        return tf.reduce_any(gradient != 0, [1, 2, 3, 4]), loss

    subsets = set()
    for i in range(80):
        chosen, loss = used(tf.constant([i, 0]))
        chosen = chosen.numpy()
        np.testing.assert_allclose(
            loss, variance(outputs.numpy()[chosen]), rtol=1e-5
        )
        subsets.add(tuple(np.flatnonzero(chosen)))
    # All 10 pairs turn up.
    assert len(subsets) == 10 and all(len(pair) == 2 for pair in subsets)


def test_bad_arguments_are_refused():
    logits, target = predictions()
    with pytest.raises(ValueError, match="`distance` must.*reversed_js.*'l1'"):
        cross_consistency.distance("l1", logits, target)
    for name in cross_consistency.NAMES:
        with pytest.raises(ValueError, match="rank 3"):
            cross_consistency.distance(name, logits[0], target)
        with pytest.raises(ValueError, match="`target`.*rank 3"):
            cross_consistency.distance(name, logits, target[0])
    with pytest.raises(ValueError, match="`mask`.*rank 4"):
        cross_consistency.cross_consistency("js", logits, target, target)
    with pytest.raises(ValueError, match="`logits`.*rank 4"):
        cross_consistency.pairwise(logits, [1, 2])
