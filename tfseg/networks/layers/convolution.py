# SPDX-License-Identifier: Apache-2.0
"""Convolution, BatchNorm and activation with the padding of PyTorch."""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import dilated


def kaiming_normal(mode="fan_in"):
    """A new initializer, N(0, 2 / fan); not cut off, as in PyTorch.

    One object must not serve two layers: unseeded, it gives both the same
    values.
    """
    return keras.initializers.VarianceScaling(2.0, mode, "untruncated_normal")


def pytorch_default(fan_in=None):
    """A new initializer: what torch.nn.Conv2d gives its kernel and its bias.

    U(-b, b) with b = fan_in ** -0.5 (Kaiming-uniform with a = sqrt(5)).

    Args:
      fan_in: inputs of one result; only for a bias, whose shape does not tell.
    """
    if fan_in is None:
        return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def convolution(
    filters,
    size=1,
    strides=1,
    dilation=1,
    *,
    dilated_conv="auto",
    kernel_initializer=None,
    use_bias=False,
    **options,
):
    """Conv2D, by default without bias. It pads itself only where stride is 1.

    Args:
      filters, size, strides, dilation: of the convolution; `size` is odd.
      dilated_conv: how to compute a dilated one, see `dilated.Conv2D`.
      kernel_initializer: `kaiming_normal()` if None.
      use_bias, **options: as in keras.layers.Conv2D.
    """
    options.update(
        filters=filters,
        kernel_size=size,
        strides=strides,
        dilation_rate=dilation,
        padding="same" if strides == 1 else "valid",
        use_bias=use_bias,
        kernel_initializer=kernel_initializer or kaiming_normal(),
    )
    if dilation == 1:
        return keras.layers.Conv2D(**options)
    return dilated.Conv2D(implementation=dilated_conv, **options)


def classifier(num_classes, fan_in):
    """1x1 convolution to float32 logits, with PyTorch's default for the bias.

    Args:
      num_classes: C.
      fan_in: channels that it sees.
    """
    return convolution(
        num_classes,
        dtype="float32",
        use_bias=True,
        bias_initializer=pytorch_default(fan_in),
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
      dilated_conv: how to compute a dilated one, see `dilated.Conv2D`.
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
        dilated_conv="auto",
    ):
        super().__init__()
        self.margin = dilation * (size // 2) if strides > 1 else 0
        self.activation = activation
        self.convolution = convolution(
            filters,
            size,
            strides,
            dilation,
            dilated_conv=dilated_conv,
            kernel_initializer=kaiming_normal(fan),
        )
        self.batch_norm = batch_norm()

    def call(self, x, training=None):
        if self.margin:
            x = pad(x, self.margin)
        x = self.batch_norm(self.convolution(x), training=training)
        return x if self.activation is None else self.activation(x)
