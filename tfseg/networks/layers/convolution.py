# SPDX-License-Identifier: Apache-2.0
"""Convolution, BatchNorm and activation with the padding of PyTorch."""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks.layers import batch_norm as batch_norms


def kaiming_normal(mode="fan_in"):
    """A new initializer, N(0, 2 / fan); not cut off, as in PyTorch.

    One object must not serve two layers: unseeded, it gives both the same
    values.
    """
    return keras.initializers.VarianceScaling(2.0, mode, "untruncated_normal")


def convolution(filters, size=1, strides=1, dilation=1, fan="fan_in"):
    """Conv2D without bias. It pads by itself only where stride is 1."""
    return keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        dilation_rate=dilation,
        padding="same" if strides == 1 else "valid",
        use_bias=False,
        kernel_initializer=kaiming_normal(fan),
    )


def pad(x, margin):
    """Adds `margin` zero rows and columns on each side.

    SAME at stride 2 would add them only at the bottom and the right of an
    even size, which shifts the features against PyTorch's.
    """
    return tf.pad(x, [[0, 0], [margin, margin], [margin, margin], [0, 0]])


class ConvBatchNorm(keras.layers.Layer):
    """Convolution without bias, BatchNorm, activation.

    Args:
      filters, size, strides, dilation: of the convolution; `size` is odd.
      activation: a function of a tensor, or None.
      batch_norm: function that makes a BatchNorm layer.
      fan: "fan_in" or "fan_out" of the initializer.
    """

    def __init__(
        self,
        filters,
        size=1,
        *,
        strides=1,
        dilation=1,
        activation=tf.nn.relu,
        batch_norm=batch_norms.factory(),
        fan="fan_in",
    ):
        super().__init__()
        self.margin = dilation * (size // 2) if strides > 1 else 0
        self.activation = activation
        self.convolution = convolution(filters, size, strides, dilation, fan)
        self.batch_norm = batch_norm()

    def call(self, x, training=None):
        if self.margin:
            x = pad(x, self.margin)
        x = self.batch_norm(self.convolution(x), training=training)
        return x if self.activation is None else self.activation(x)
