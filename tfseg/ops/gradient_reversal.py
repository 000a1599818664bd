# SPDX-License-Identifier: Apache-2.0
"""What lets two parts of a network play against each other in one step.

Source: Ganin and Lempitsky, ICML 2015 (arXiv 1409.7495), section 3.
"""

import tensorflow as tf


def reverse(x, factor=1.0):
    """x, whose gradient is multiplied by -factor.

    What comes after learns to lower a loss, what comes before to raise it.

    Args:
      x: float tensor.
      factor: float scalar (tensor), how strongly; 0 = no gradient. Without
        a gradient of its own.

    Returns:
      x. Its gradient is multiplied in float32 (float64 stays) and has the
      dtype of x: a factor that half precision does not resolve counts as it
      is.
    """

    @tf.custom_gradient
    def identity(x):
        def backward(upstream):
            exact = tf.float64 if x.dtype == tf.float64 else tf.float32
            reversed_gradient = -tf.cast(factor, exact) * tf.cast(
                upstream, exact
            )
            return tf.cast(reversed_gradient, x.dtype)

        return tf.identity(x), backward

    return identity(tf.convert_to_tensor(x))
