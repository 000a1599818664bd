# SPDX-License-Identifier: Apache-2.0
"""DenseNet-121, 161, 169 and 201 with the arithmetic of PyTorch.

Huang et al., arXiv 1608.06993, as torchvision's models/densenet.py builds it:
BatchNorm and ReLU before each convolution, transitions that halve both sides
and channels, BatchNorm with epsilon 1e-5 and (Keras) momentum 0.9. Variables
come in the order of the PyTorch state dict.

One deliberate difference: a side of a single pixel stays one at a transition,
where PyTorch's average pooling refuses it. So any size works.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, pooling

# Depth: channels of the stem, growth, dense layers per stage.
LAYOUTS = {
    121: (64, 32, (6, 12, 24, 16)),
    161: (96, 48, (6, 12, 36, 24)),
    169: (64, 32, (6, 12, 32, 32)),
    201: (64, 32, (6, 12, 48, 32)),
}
# Channels between the two convolutions of a dense layer, per growth.
BOTTLENECK = 4


def stage_channels(depth):
    """Channels after the stem and after each of the four stages."""
    channels, growth, stages = LAYOUTS[depth]
    result = [channels]
    for index, layers in enumerate(stages):
        # A transition stands before every stage but the first.
        channels = (channels if index == 0 else channels // 2) + layers * growth
        result.append(channels)
    return result


def halve(x):
    """2x2 average pooling; an odd last row or column is left out.

    A lone row or column is kept: SAME averages only what is there.
    """
    height, width = (tf.shape(x)[axis] for axis in (1, 2))
    x = x[:, : tf.maximum(height // 2 * 2, 1), : tf.maximum(width // 2 * 2, 1)]
    return tf.nn.avg_pool2d(x, 2, 2, "SAME")


class DenseLayer(keras.layers.Layer):
    """[B, H, W, C] -> [B, H, W, growth]: what a dense layer adds."""

    def __init__(self, growth, batch_norm):
        super().__init__()
        self.norm1 = batch_norm()
        self.conv1 = convolution.convolution(BOTTLENECK * growth)
        self.norm2 = batch_norm()
        self.conv2 = convolution.convolution(growth, 3)

    def call(self, x, training=None):
        x = self.conv1(tf.nn.relu(self.norm1(x, training=training)))
        return self.conv2(tf.nn.relu(self.norm2(x, training=training)))


class Transition(keras.layers.Layer):
    """BatchNorm, ReLU, 1x1 convolution to `filters`, half the size."""

    def __init__(self, filters, batch_norm):
        super().__init__()
        self.norm = batch_norm()
        self.conv = convolution.convolution(filters)

    def call(self, x, training=None):
        x = self.conv(tf.nn.relu(self.norm(x, training=training)))
        return halve(x)


class Stage(keras.layers.Layer):
    """An optional transition, then a dense block."""

    def __init__(self, transition, dense_layers):
        super().__init__()
        self.transition = transition
        self.dense_layers = dense_layers

    def call(self, x, training=None):
        if self.transition is not None:
            x = self.transition(x, training=training)
        for layer in self.dense_layers:
            x = tf.concat([x, layer(x, training=training)], -1)
        return x


class DenseNet(base.Encoder):
    """Features at strides 2 (stem), 4, 8, 16 and 32 (normalized)."""

    def __init__(self, depth, *, batch_norm, **options):
        channels = stage_channels(depth)
        strides = [f"stride{2 ** (n + 1)}" for n in range(len(channels))]
        super().__init__(
            feature_channels=dict(zip(strides, channels)),
            output_stride=32,
            architecture=f"densenet{depth}",
            **options,
        )
        _, growth, stages = LAYOUTS[depth]
        self.stem = convolution.ConvBatchNorm(
            channels[0], 7, strides=2, batch_norm=batch_norm
        )
        self.pool = pooling.MaxPool2D(3, 2, 1)
        self.stages = [
            Stage(
                Transition(before // 2, batch_norm) if index else None,
                [DenseLayer(growth, batch_norm) for _ in range(layers)],
            )
            for index, (before, layers) in enumerate(zip(channels, stages))
        ]
        self.norm = batch_norm()
        self.build(base.IMAGE_SHAPE)

    def features(self, image, training):
        x = self.stem(self.normalize(image), training=training)
        maps = [x]
        x = self.pool(x)
        for stage in self.stages:
            x = stage(x, training=training)
            maps.append(x)
        maps[-1] = tf.nn.relu(self.norm(x, training=training))
        return dict(zip(self.feature_channels, maps))


def build(
    *, depth=161, normalization="torch", batch_norm=batch_norms.factory()
):
    """The encoder.

    Args:
      depth: 121, 161, 169 or 201.
      normalization: see `base.NORMALIZATIONS`.
      batch_norm: function that makes a BatchNorm layer.

    Returns:
      base.Encoder with output stride 32.

    Raises:
      ValueError: for an unknown choice.
    """
    base.check_choice("depth", depth, tuple(LAYOUTS))
    return DenseNet(depth, batch_norm=batch_norm, normalization=normalization)
