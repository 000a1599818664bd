# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops import gradient_reversal

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])


def _value_and_gradient(wrap, x, factor, slope):
    @wrap
    def run(x, factor):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = gradient_reversal.reverse(x, factor)
            loss = tf.reduce_sum(tf.cast(result, tf.float64) * slope)
        return result, tape.gradient(loss, x)

    return run(x, factor)


@CALLS
@pytest.mark.parametrize(
    "dtype", [tf.float64, tf.float32, tf.float16, tf.bfloat16]
)
@pytest.mark.parametrize("factor", [1.0, 0.02, 0.0])
def test_passes_on_and_turns_the_gradient(wrap, dtype, factor):
    x = tf.constant([[1.0, -2.0], [0.5, 0.0]], dtype)
    slope = np.array([[3.0, -1.0], [0.25, 7.0]])
    result, gradient = _value_and_gradient(wrap, x, factor, slope)
    np.testing.assert_array_equal(result, x)
    assert result.dtype == gradient.dtype == dtype
    expected = tf.cast(-np.float32(factor) * slope, dtype)
    np.testing.assert_allclose(
        tf.cast(gradient, tf.float64), tf.cast(expected, tf.float64), rtol=1e-7
    )


def test_factor_is_not_rounded_to_half_precision():
    # bfloat16 makes 1.0039 of 1.002, and 1.0 of 1.001.
    x = tf.constant([1.0], tf.bfloat16)
    slope = np.array([300.0])
    _, gradient = _value_and_gradient(lambda f: f, x, 1.001, slope)
    expected = tf.cast(tf.constant(-300.3), tf.bfloat16)
    assert float(gradient[0]) == float(expected)


@CALLS
def test_factor_may_be_a_tensor_and_gets_no_gradient(wrap):
    @wrap
    def run():
        x, factor = tf.constant(2.0), tf.constant(0.5)
        with tf.GradientTape() as tape:
            tape.watch([x, factor])
            loss = gradient_reversal.reverse(x, factor) ** 2
        return tape.gradient(loss, [x, factor])

    of_x, of_factor = run()
    assert of_x == -2.0 and of_factor is None


def test_twice_is_the_product():
    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = gradient_reversal.reverse(gradient_reversal.reverse(x, 2.0), 5.0)
    assert tape.gradient(y, x) == 10.0
