# SPDX-License-Identifier: Apache-2.0
"""A small encoder-decoder that trains on a CPU, for the demo and for tests.

Three strides of two, residual blocks at the lowest resolution, and a decoder
that comes back to stride 2 over two skips (Long et al., arXiv 1411.4038;
Ronneberger et al., arXiv 1505.04597). 135k parameters for 11 classes.

Dense convolutions on purpose: with so few channels a separable convolution
has a third of the multiplications but takes longer on a CPU.
"""

import functools

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, resize


class Residual(keras.layers.Layer):
    """x + ConvBatchNorm(x)."""

    def __init__(self, filters, batch_norm):
        super().__init__()
        self.branch = convolution.ConvBatchNorm(
            filters, 3, batch_norm=batch_norm
        )

    def call(self, x, training=None):
        return x + self.branch(x, training=training)


class Encoder(base.Encoder):
    """Features of 1, 2 and 4 times `width` channels at strides 2, 4 and 8."""

    def __init__(self, width, batch_norm):
        channels = {
            "stride2": width,
            "stride4": 2 * width,
            "stride8": 4 * width,
        }
        super().__init__(feature_channels=channels, output_stride=8)

        def block(filters, strides):
            return convolution.ConvBatchNorm(
                filters, 3, strides=strides, batch_norm=batch_norm
            )

        self.stages = [
            [block(width, 2)],
            [block(2 * width, 2), block(2 * width, 1)],
            [
                block(4 * width, 2),
                Residual(4 * width, batch_norm),
                Residual(4 * width, batch_norm),
            ],
        ]
        self.build(base.IMAGE_SHAPE)

    def features(self, image, training):
        x = (image - 127.5) / 64.0
        features = {}
        for name, stage in zip(self.feature_channels, self.stages):
            for layer in stage:
                x = layer(x, training=training)
            features[name] = x
        return features


class Decoder(base.Decoder):
    """Up over the skips at strides 4 and 2, then logits at image size."""

    def __init__(self, num_classes, width, batch_norm):
        super().__init__()
        self.squeeze = convolution.ConvBatchNorm(
            2 * width, batch_norm=batch_norm
        )
        self.merge_stride4 = convolution.ConvBatchNorm(
            2 * width, 3, batch_norm=batch_norm
        )
        self.merge_stride2 = convolution.ConvBatchNorm(
            width, 3, batch_norm=batch_norm
        )
        self.classifier = keras.layers.Conv2D(num_classes, 1, dtype="float32")

    def embed(self, features, training=None):
        x = self.squeeze(features["stride8"], training=training)
        x = _join(x, features["stride4"])
        x = self.merge_stride4(x, training=training)
        x = _join(x, features["stride2"])
        return self.merge_stride2(x, training=training)

    def logits(self, embedding, training=None):
        return self.classifier(embedding)


def build(*, num_classes, width=16, batch_norm=None):
    """The network.

    Args:
      num_classes: classes including the background.
      width: channels at stride 2; twice and four times as many below it.
      batch_norm: mapping, see `layers.batch_norm.factories`.

    Returns:
      base.Network; its top feature is "stride8".

    Raises:
      ValueError: if a value is out of range.
    """
    base.check_num_classes(num_classes)
    if width < 1:
        raise ValueError(
            f"`width` must be at least 1. Received: width={width}."
        )
    encoder_norm, decoder_norm = batch_norms.factories(batch_norm)
    return base.Network(
        Encoder(width, encoder_norm),
        functools.partial(Decoder, num_classes, width, decoder_norm),
        num_classes,
    )


def _join(x, skip):
    x = resize.bilinear(x, tf.shape(skip)[1:3], align_corners=True)
    return tf.concat([x, skip], -1)
