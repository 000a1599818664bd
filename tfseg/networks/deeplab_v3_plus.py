# SPDX-License-Identifier: Apache-2.0
"""DeepLabv3+ on a dilated ResNet (Chen et al., arXiv 1802.02611).

Two published heads, by `head`:
  "cps": Chen et al., arXiv 2106.01226, TorchSemiSeg exp.voc/*/network.py. One
    BatchNorm over the concatenated ASPP branches, LeakyReLU 0.01, the pooled
    branch added, [aspp, low-level] in the decoder, corners aligned. 40,475,957
    trainable parameters with the deep-stem ResNet-50 and 21 classes.
  "torchvision": French et al., arXiv 1906.01916, architectures/
    deeplab3plus.py. A normalized ASPP of 1280 channels with dropout,
    [low-level, aspp] in the decoder, corners not aligned. 40,352,181 with the
    plain-stem ResNet-50 and 21 classes.
The defaults are CPS's. French et al. use head="torchvision", stem="plain",
depth=101, output_stride=8, aspp_rates=(12, 24, 36), multi_grid=(1, 1, 1) and
dilate_first_block=False.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.encoders import resnet
from tfseg.networks.layers import aspp
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, resize

HEADS = ("cps", "torchvision")
FILTERS = 256
LOW_LEVEL_FILTERS = 48


class Decoder(keras.layers.Layer):
    """ASPP on the top feature, joined with the one at stride 4."""

    def __init__(self, num_classes, *, head, top, rates, batch_norm):
        super().__init__()
        self.head, self.top = head, top
        self.align_corners = head == "cps"
        pooling = (
            aspp.SummedPooling if head == "cps" else aspp.ConcatenatedPooling
        )
        self.pooling = pooling(FILTERS, rates, batch_norm=batch_norm)
        self.low_level = convolution.ConvBatchNorm(
            LOW_LEVEL_FILTERS, batch_norm=batch_norm
        )
        self.merge = [
            convolution.ConvBatchNorm(FILTERS, 3, batch_norm=batch_norm)
            for _ in range(2)
        ]
        # PyTorch's default for the bias, which both repositories leave.
        bound = FILTERS**-0.5
        self.classifier = keras.layers.Conv2D(
            num_classes,
            1,
            dtype="float32",
            kernel_initializer=convolution.kaiming_normal(),
            bias_initializer=keras.initializers.RandomUniform(-bound, bound),
        )

    def call(self, features, training=None):
        low = self.low_level(features["stride4"], training=training)
        high = self.pooling(features[self.top], training=training)
        high = self._resize(high, tf.shape(low)[1:3])
        x = tf.concat(
            [high, low] if self.head == "cps" else [low, high], axis=-1
        )
        for layer in self.merge:
            x = layer(x, training=training)
        return self._resize(self.classifier(x), features["image_size"])

    def _resize(self, x, size):
        return resize.bilinear(x, size, align_corners=self.align_corners)


def build(
    *,
    num_classes,
    depth=50,
    stem="deep",
    output_stride=16,
    aspp_rates=(6, 12, 18),
    head="cps",
    multi_grid=(1, 2, 4),
    dilate_first_block=True,
    weights="",
    batch_norm_momentum=0.9,
    batch_norm_epsilon=1e-5,
    batch_norm_synchronized=False,
    batch_norm_frozen=False,
):
    """The network.

    Args:
      num_classes: classes including the background.
      depth, stem, output_stride, multi_grid, dilate_first_block, weights: of
        the encoder, see `encoders.resnet.build`.
      aspp_rates: dilations of the 3x3 branches, for this output stride;
        (12, 24, 36) is usual at 8.
      head: "cps" or "torchvision".
      batch_norm_momentum, batch_norm_epsilon, batch_norm_synchronized: of
        every BatchNorm, see `layers.batch_norm.factory`.
      batch_norm_frozen: freezes the BatchNorm of the encoder.

    Returns:
      base.Network; its top feature is f"stride{output_stride}".

    Raises:
      ValueError: for an unknown choice, or if `weights` does not exist.
    """
    base.check_num_classes(num_classes)
    base.check_choice("head", head, HEADS)
    if not aspp_rates or min(aspp_rates) < 1:
        raise ValueError(
            "`aspp_rates` must be dilations of at least 1. "
            f"Received: aspp_rates={tuple(aspp_rates)}."
        )
    options = dict(
        momentum=batch_norm_momentum,
        epsilon=batch_norm_epsilon,
        synchronized=batch_norm_synchronized,
    )
    encoder = resnet.build(
        depth=depth,
        stem=stem,
        output_stride=output_stride,
        multi_grid=multi_grid,
        dilate_first_block=dilate_first_block,
        weights=weights,
        batch_norm=batch_norms.factory(frozen=batch_norm_frozen, **options),
    )
    decoder = Decoder(
        num_classes,
        head=head,
        top=encoder.top,
        rates=aspp_rates,
        batch_norm=batch_norms.factory(**options),
    )
    return base.Network(encoder, decoder, num_classes)
