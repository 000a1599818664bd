# SPDX-License-Identifier: Apache-2.0
"""Sub-pixel convolution (Shi et al., arXiv 1609.05158), as PyTorch orders it.

Channel 4c + 2i + j of the convolution becomes row i, column j of class c, so
that kernel and bias are those of a PyTorch state dict. depth_to_space wants
(2i + j)C + c; reordering the kernel is cheaper than reordering the maps.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks.layers import convolution


def icnr(shape, dtype=None):
    """Initializer under which the four sub-pixels of a pixel start equal.

    Aitken et al., arXiv 1707.02937: Kaiming-normal values, each four times.

    Args:
      shape: [1, 1, channels, 4 * filters].
      dtype: of the result.
    """
    *window, outputs = shape
    values = convolution.kaiming_normal()([*window, outputs // 4], dtype)
    return tf.repeat(values, 4, axis=-1)


class SubPixel(keras.layers.Conv2D):
    """[B, H, W, channels] -> [B, 2H, 2W, channels].

    A 1x1 convolution to 4 * channels, an activation, the shuffle.

    Args:
      channels: of the input and of the result.
      activation: as in keras.layers.Conv2D; None for none.
      dtype: as in keras.layers.Layer.
    """

    def __init__(self, channels, activation="relu", dtype=None):
        super().__init__(
            4 * channels,
            1,
            activation=activation,
            kernel_initializer=icnr,
            bias_initializer=convolution.pytorch_default(channels),
            dtype=dtype,
        )

    def call(self, x):
        x = tf.nn.conv2d(x, _shuffled(self.kernel), 1, "VALID")
        x = self.activation(tf.nn.bias_add(x, _shuffled(self.bias)))
        return tf.nn.depth_to_space(x, 2)


def _shuffled(weights):
    *shape, outputs = weights.shape
    weights = tf.reshape(weights, [*shape, outputs // 4, 4])
    return tf.reshape(tf.linalg.matrix_transpose(weights), [*shape, outputs])
