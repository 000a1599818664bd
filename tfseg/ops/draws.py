# SPDX-License-Identifier: Apache-2.0
"""Random numbers that are the same with and without XLA, and on any device.

XLA draws other floats than the rest of TensorFlow from a seed, but the same
integers; and it has no gamma distribution.
"""

import math

import tensorflow as tf

# Of Marsaglia and Tsang's method at shape >= 1: a try is refused with
# probability below 0.05, all of them with one below 1e-20.
_TRIES = 16


def uniform(shape, seed):
    """float64 in [0, 1), a pure function of the seed.

    Args:
      shape: ints, or an int32 tensor.
      seed: int32 [2].
    """
    bits = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    return tf.cast(bits, tf.float64) * 2.0**-32


def beta(count, seed, *, alpha):
    """Draws of Beta(alpha, alpha).

    Args:
      count: int or int32 scalar, N.
      seed: int32 [2].
      alpha: positive; a small one gives values near 0 and 1.

    Returns:
      float32 [N] in [0, 1].

    Source: of two gamma variates, X / (X + Y), by their logarithms: with a
    small alpha both may be smaller than any float.
    """
    log_x, log_y = tf.unstack(_log_gamma(count, seed, alpha))
    return tf.cast(tf.sigmoid(log_x - log_y), tf.float32)


def _log_gamma(count, seed, alpha):
    """float64 [2, N]: logarithm of Gamma(alpha, 1).

    Source: Marsaglia and Tsang 2000: the cube of a normal variate for shape
    alpha + 1, times a power of a uniform one.
    """
    draws = uniform([2, count, _TRIES + 1, 3], seed)
    # In (0, 1]: of a logarithm.
    draws = 1.0 - draws
    normal = tf.sqrt(-2.0 * tf.math.log(draws[..., 0])) * tf.cos(
        2.0 * math.pi * draws[..., 1]
    )
    d = alpha + 2.0 / 3.0
    cube = (1.0 + normal / math.sqrt(9.0 * d)) ** 3
    log_cube = tf.math.log(tf.where(cube > 0, cube, 1.0))
    accepted = (cube > 0) & (
        tf.math.log(draws[..., 2])
        < 0.5 * normal**2 + d * (1.0 - cube + log_cube)
    )
    first = tf.argmax(tf.cast(accepted[..., :_TRIES], tf.int32), -1)
    chosen = tf.gather(log_cube, first, axis=-1, batch_dims=2)
    return chosen + math.log(d) + tf.math.log(draws[..., _TRIES, 0]) / alpha
