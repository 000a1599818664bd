# SPDX-License-Identifier: Apache-2.0
"""MiT, the Mix Transformer of SegFormer, for images of any size.

Xie et al., arXiv 2105.15203, with the arithmetic of the official PyTorch code
(NVlabs/SegFormer, mmseg/models/backbones/mix_transformer.py): symmetric
padding of the patch embeddings, exact GELU, LayerNorm with epsilon 1e-6 in
and after the blocks and 1e-5 elsewhere, kernels of dense layers from
N(0, 0.02), of convolutions He-normal by fan-out. Variables come in the order
of the PyTorch state dict.

This is not `keras_cv.models.MiTBackbone`, which does not serve segmentation:
it takes images of one size only, which must be square; at sides that 32 does
not divide it fails or folds rows into channels; and before each spatial
reduction it reads [positions, channels] as if it were [channels, positions],
so a "pixel" there is a mixture of positions and channels.

Differences on purpose:
  Stochastic depth (rate 0.1 there) is left out.
  Where the reduction ratio does not divide a map, zeros are added at the
    bottom and the right. PyTorch drops those rows and columns, and cannot
    reduce a map that is smaller than the ratio.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.layers import convolution

# Size: channels and blocks per stage.
LAYOUTS = {
    "b0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "b1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "b2": ((64, 128, 320, 512), (3, 4, 6, 3)),
}
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
EXPANSION = 4


def dense(units):
    """Dense layer with SegFormer's start values."""
    return keras.layers.Dense(
        units, kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02)
    )


class PatchEmbedding(keras.layers.Layer):
    """Convolution with stride on overlapping patches, then LayerNorm."""

    def __init__(self, channels, size, stride):
        super().__init__()
        self.margin = size // 2
        self.project = convolution.convolution(
            channels,
            size,
            stride,
            use_bias=True,
            kernel_initializer=convolution.kaiming_normal("fan_out"),
        )
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5)

    def call(self, x):
        return self.norm(self.project(convolution.pad(x, self.margin)))


class Attention(keras.layers.Layer):
    """Every position attends to windows of `reduction` x `reduction`.

    Args:
      channels: of the map, before and after.
      heads: divides `channels`.
      reduction: side of the windows that become one key and value, pixels.
    """

    def __init__(self, channels, heads, reduction):
        super().__init__()
        self.channels, self.heads = channels, heads
        self.reduction = reduction
        self.query = dense(channels)
        self.key_value = dense(2 * channels)
        self.project = dense(channels)
        if reduction > 1:
            self.reduce = keras.layers.Conv2D(
                channels,
                reduction,
                reduction,
                kernel_initializer=convolution.kaiming_normal("fan_out"),
            )
            self.norm = keras.layers.LayerNormalization(epsilon=1e-5)

    def call(self, x):
        query = self._split(self.query(x))
        pairs = self.key_value(self._reduced(x))
        key, value = (self._split(y) for y in tf.split(pairs, 2, -1))
        scale = (self.channels // self.heads) ** -0.5
        scores = tf.matmul(query * scale, key, transpose_b=True)
        shares = tf.nn.softmax(tf.cast(scores, tf.float32))
        values = tf.matmul(tf.cast(shares, value.dtype), value)
        values = tf.transpose(values, [0, 2, 1, 3])
        return self.project(tf.reshape(values, tf.shape(x)))

    def _split(self, x):
        """[B, H, W, C] -> [B, heads, H * W, C / heads]."""
        shape = [tf.shape(x)[0], -1, self.heads, self.channels // self.heads]
        return tf.transpose(tf.reshape(x, shape), [0, 2, 1, 3])

    def _reduced(self, x):
        if self.reduction == 1:
            return x
        rows, columns = (
            [0, -tf.shape(x)[axis] % self.reduction] for axis in (1, 2)
        )
        x = tf.pad(x, [[0, 0], rows, columns, [0, 0]])
        return self.norm(self.reduce(x))


class FeedForward(keras.layers.Layer):
    """Two dense layers with a depthwise 3x3 convolution in between."""

    def __init__(self, channels):
        super().__init__()
        self.expand = dense(EXPANSION * channels)
        self.depthwise = keras.layers.DepthwiseConv2D(
            3,
            padding="same",
            depthwise_initializer=convolution.kaiming_normal("fan_out"),
        )
        self.project = dense(channels)

    def call(self, x):
        x = self.depthwise(self.expand(x))
        return self.project(tf.nn.gelu(x, approximate=False))


class Block(keras.layers.Layer):
    """Attention and a feed-forward network, each added to its input."""

    def __init__(self, channels, heads, reduction):
        super().__init__()
        self.norm1 = keras.layers.LayerNormalization(epsilon=1e-6)
        self.attention = Attention(channels, heads, reduction)
        self.norm2 = keras.layers.LayerNormalization(epsilon=1e-6)
        self.feed_forward = FeedForward(channels)

    def call(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Stage(keras.layers.Layer):
    """Blocks, then LayerNorm."""

    def __init__(self, channels, depth, heads, reduction):
        super().__init__()
        self.blocks = [Block(channels, heads, reduction) for _ in range(depth)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class MiT(base.Encoder):
    """Features of the four stages, at strides 4, 8, 16 and 32."""

    def __init__(self, channels, depths, **options):
        names = [f"stride{4 << n}" for n in range(4)]
        super().__init__(
            feature_channels=dict(zip(names, channels)),
            output_stride=32,
            **options,
        )
        self.patch_embeddings = [
            PatchEmbedding(width, 3 if n else 7, 2 if n else 4)
            for n, width in enumerate(channels)
        ]
        self.stages = [
            Stage(*sizes) for sizes in zip(channels, depths, HEADS, REDUCTIONS)
        ]
        self.build(base.IMAGE_SHAPE)

    def features(self, image, training):
        x = self.normalize(image)
        features = {}
        for name, embedding, stage in zip(
            self.feature_channels, self.patch_embeddings, self.stages
        ):
            x = features[name] = stage(embedding(x))
        return features


def build(*, size="b0", normalization="torch"):
    """The encoder.

    Args:
      size: "b0", "b1" or "b2".
      normalization: see `base.NORMALIZATIONS`.

    Returns:
      base.Encoder with output stride 32. It has LayerNorm, not BatchNorm.

    Raises:
      ValueError: for an unknown choice.
    """
    base.check_choice("size", size, tuple(LAYOUTS))
    return MiT(*LAYOUTS[size], normalization=normalization)
