# SPDX-License-Identifier: Apache-2.0
"""DenseUNet: a U-Net decoder that adds, on DenseNet.

French et al., arXiv 1906.01916, architectures/denseunet.py ("DenseUNet-161"),
after Li et al., arXiv 1709.07330. Features after the stem and after each dense
block; a 1x1 convolution brings the one at stride 16 to the width of the top.
Then four times: up (nearest) by two, add the skip, 3x3 convolution, BatchNorm,
ReLU; at the end up once more, 3x3 to 64 channels, dropout 0.3, BatchNorm, ReLU
in this order, and the 1x1 classifier at full size. Decoder kernels and biases
start as PyTorch's layers do, which the code leaves untouched; encoder kernels
as torchvision's.

Deliberate differences:
  - The code wants multiples of 32. Here a map is brought to the size of its
    skip, of which twice the size is the special case, so any size works.
  - The code without ImageNet weights normalizes with the mean and standard
    deviation of the data set. Here `normalization` decides.
"""

import functools

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.encoders import densenet
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, dropout

FILTERS = 64
DROPOUT = 0.3


def nearest(x, size):
    """[B, H, W, C] -> [B, *size, C], result i from position i * in // out.

    That is PyTorch's `interpolate(mode="nearest")`; `tf.image.resize` takes
    half a pixel more. XLA has no gradient of TensorFlow's own kernel.
    """
    for axis in (1, 2):
        before, after = tf.shape(x)[axis], size[axis - 1]
        x = tf.gather(x, tf.range(after) * before // after, axis=axis)
    return x


def _convolution(filters, size, fan_in=None, **options):
    """As PyTorch starts it; with a bias, tell the channels that it sees."""
    return convolution.convolution(
        filters,
        size,
        kernel_initializer=convolution.pytorch_default(),
        use_bias=fan_in is not None,
        bias_initializer=convolution.pytorch_default(fan_in),
        **options,
    )


class Up(keras.layers.Layer):
    """Joins a map with a skip of the same channels and twice the size."""

    def __init__(self, filters, batch_norm):
        super().__init__()
        self.convolution = _convolution(filters, 3)
        self.batch_norm = batch_norm()

    def call(self, x, skip, training=None):
        x = self.convolution(nearest(x, tf.shape(skip)[1:3]) + skip)
        return tf.nn.relu(self.batch_norm(x, training=training))


class Decoder(base.Decoder):
    """Up over the skips at strides 16, 8, 4 and 2, then to the image.

    The embedding, 64 channels, already has the size of the image.
    """

    def __init__(self, num_classes, *, channels, batch_norm):
        super().__init__()
        *self.skips, self.top = channels
        *skips, before, top = channels.values()
        self.widen = _convolution(top, 1, before)
        # Shallow to deep, as in the PyTorch state dict: joins the n-th skip.
        self.ups = [Up(filters, batch_norm) for filters in [skips[0], *skips]]
        self.last = _convolution(FILTERS, 3)
        self.dropout = dropout.Dropout(DROPOUT)
        self.last_norm = batch_norm()
        self.classifier = _convolution(num_classes, 1, FILTERS, dtype="float32")

    def embed(self, features, training=None):
        x = features[self.top]
        skips = [features[name] for name in self.skips]
        skips[-1] = self.widen(skips[-1])
        for layer, skip in zip(self.ups[::-1], skips[::-1]):
            x = layer(x, skip, training=training)
        x = self.last(nearest(x, features["image_size"]))
        x = self.dropout(x, training=training)
        return tf.nn.relu(self.last_norm(x, training=training))

    def logits(self, embedding, training=None):
        return self.classifier(embedding)

    def classify(self, embedding, image_size, training=None):
        # The embedding has the size of the image already.
        return self.logits(embedding, training=training)


def build(
    *,
    num_classes,
    depth=161,
    weights="",
    normalization="torch",
    batch_norm=None,
):
    """The network.

    Args:
      num_classes: classes including the background.
      depth: of the DenseNet: 121, 161, 169 or 201.
      weights: of the encoder, see `weights.pretrained.load`; "" for none.
      normalization: of the encoder, see `base.NORMALIZATIONS`.
      batch_norm: mapping, see `layers.batch_norm.factories`.

    Returns:
      base.Network; its top feature is "stride32".

    Raises:
      ValueError: for an unknown choice or unfit weights.
    """
    base.check_num_classes(num_classes)
    encoder_norm, decoder_norm = batch_norms.factories(batch_norm)
    encoder = densenet.build(
        depth=depth, normalization=normalization, batch_norm=encoder_norm
    )
    make_decoder = functools.partial(
        Decoder,
        num_classes,
        channels=encoder.feature_channels,
        batch_norm=decoder_norm,
    )
    return base.Network(encoder, make_decoder, num_classes, weights)
