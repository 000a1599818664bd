# SPDX-License-Identifier: Apache-2.0
"""Directions where numbers are small, large, coarse or not finite."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.ops.adversarial_test import (
    CALLS,
    SHAPE,
    cosines,
    direction,
    network,
    normal,
    norms,
)
from tfseg.networks import fcn

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


@functools.lru_cache(maxsize=None)
def networks():
    """The same random network for each policy."""
    keras.utils.set_random_seed(0)
    result = {}
    for policy in POLICIES:
        keras.mixed_precision.set_global_policy(policy)
        try:
            result[policy] = fcn.build(num_classes=4, width=4)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        for a, b in zip(result[policy].variables, result["float32"].variables):
            a.assign(b)
    return result


def of_policy(policy, name, xi=1.0):
    """Direction of that network on two images of random gray levels."""
    image = np.random.RandomState(0).uniform(0, 255, (2, 24, 32, 3))
    image, noise = image.astype(np.float32), normal(*image.shape, seed=1)
    return direction(networks()[policy], image, noise, name=name, xi=xi)


@pytest.mark.parametrize("name", ["kld", "var"])
@pytest.mark.parametrize("policy", POLICIES[1:])
def test_one_gray_level_suits_half_precision(policy, name):
    exact, half = of_policy("float32", name), of_policy(policy, name)
    assert np.all(cosines(half, exact) > 0.85)


@pytest.mark.parametrize("name", ["kld", "var"])
def test_one_gray_level_is_small(name):
    smallest = of_policy("float32", name, xi=0.01)
    assert np.all(cosines(of_policy("float32", name), smallest) > 0.9)


def decoder(dtype):
    """Of features to logits, all in one dtype."""
    kernel = tf.constant(normal(3, 3, 3, 4), dtype)

    def predict(features):
        features = tf.cast(features, dtype)
        return 0.1 * tf.tanh(tf.nn.conv2d(features, kernel, 1, "SAME"))

    return predict


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_float16_gradients_neither_vanish_nor_overflow(factor):
    features = tf.constant(normal(2, 6, 7, 3), tf.float16)
    noise = normal(2, 6, 7, 3, seed=1)
    half, exact = (
        direction(decoder(dtype), features, noise, factor=factor, xi=0.1)
        for dtype in (tf.float16, tf.float32)
    )
    assert half.dtype == tf.float32
    np.testing.assert_allclose(norms(half), 1, rtol=1e-5)
    assert np.all(cosines(half, exact) > 0.99)


def test_float16_overflow_gives_no_direction():
    @tf.custom_gradient
    def steep(x):
        return x, lambda upstream: upstream * 2.0**15 * 2.0**15

    features = tf.constant(normal(2, 6, 7, 3), tf.float16)
    predict = decoder(tf.float16)
    result = direction(lambda x: predict(steep(x)), features, features)
    np.testing.assert_array_equal(result, tf.zeros_like(result))


@CALLS
def test_neither_scale_nor_neighbors_matter(wrap):
    predict = network()
    image, noise = normal(*SHAPE, seed=3), normal(*SHAPE, seed=4)
    expected = direction(predict, image, noise)
    for factor in (1e-30, 1e30):

        @wrap
        def run(image, noise, factor=factor):
            return direction(predict, image, factor * noise, factor=factor)

        np.testing.assert_allclose(run(image, noise), expected, atol=1e-5)
        for row in range(2):
            alone = run(image[row : row + 1], noise[row : row + 1])
            np.testing.assert_allclose(alone[0], expected[row], atol=1e-5)


@CALLS
def test_no_gradient_no_direction(wrap):
    image, noise = normal(*SHAPE), normal(*SHAPE, seed=1)
    valid = np.ones(SHAPE[:3], bool)
    valid[1] = False

    def flat(image):
        return 0.0 * image

    def unconnected(image):
        return tf.ones_like(image)

    def certain(image):
        return tf.concat([image[..., :1] + 1e4, image], -1)

    for predict in (flat, unconnected, certain):
        run = wrap(functools.partial(direction, predict))
        np.testing.assert_array_equal(run(image, noise), np.zeros(SHAPE))
    run = wrap(functools.partial(direction, network()))
    half = run(image, noise, valid=valid)
    np.testing.assert_allclose(norms(half), [1, 0], rtol=1e-5)
    one = tf.zeros([1, 1, 1, 3])
    np.testing.assert_allclose(norms(run(one, one + 1)), 1, rtol=1e-5)


def test_gradient_that_is_not_finite_gives_no_direction():
    image, noise = normal(*SHAPE, seed=3), normal(*SHAPE, seed=4)

    @tf.custom_gradient
    def broken(x):
        # The second image alone; infinities are as bad as NaN.
        bad = np.array([1, np.inf], np.float32).reshape(2, 1, 1, 1)
        return x, lambda upstream: upstream * bad

    predict = network()
    result = direction(lambda x: predict(broken(x)), image, noise)
    expected = direction(predict, image, noise)
    np.testing.assert_allclose(result[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(result[1], 0)


def test_noise_of_one_sign():
    predict = network()
    image, noise = normal(*SHAPE, seed=3), np.abs(normal(*SHAPE, seed=4))
    above, below = (direction(predict, image, sign * noise) for sign in (1, -1))
    assert np.all(cosines(above, below) < -0.99)
