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

import functools

import tensorflow as tf

from tfseg.networks import base
from tfseg.networks.encoders import resnet
from tfseg.networks.layers import aspp
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, resize

HEADS = ("cps", "torchvision")
FILTERS = 256
LOW_LEVEL_FILTERS = 48


class Decoder(base.Decoder):
    """ASPP on the top feature, joined with the one at stride 4."""

    def __init__(
        self, num_classes, *, head, top, rates, batch_norm, dilated_conv
    ):
        super().__init__()
        self.head, self.top = head, top
        self.align_corners = head == "cps"
        pooling = (
            aspp.SummedPooling if head == "cps" else aspp.ConcatenatedPooling
        )
        self.pooling = pooling(
            FILTERS, rates, batch_norm=batch_norm, dilated_conv=dilated_conv
        )
        self.low_level = convolution.ConvBatchNorm(
            LOW_LEVEL_FILTERS, batch_norm=batch_norm
        )
        self.merge = [
            convolution.ConvBatchNorm(FILTERS, 3, batch_norm=batch_norm)
            for _ in range(2)
        ]
        self.classifier = convolution.classifier(num_classes, FILTERS)

    def embed(self, features, training=None):
        low = self.low_level(features["stride4"], training=training)
        high = self.pooling(features[self.top], training=training)
        high = self._resize(high, tf.shape(low)[1:3])
        x = tf.concat(
            [high, low] if self.head == "cps" else [low, high], axis=-1
        )
        for layer in self.merge:
            x = layer(x, training=training)
        return x

    def classify(self, embedding, image_size, training=None):
        logits = self.classifier(embedding)
        return (
            logits if image_size is None else self._resize(logits, image_size)
        )

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
    stride_on="3x3",
    weights="",
    normalization="torch",
    dilated_conv="auto",
    batch_norm=None,
):
    """The network.

    Args:
      num_classes: classes including the background.
      depth, stem, output_stride, multi_grid, dilate_first_block, stride_on,
        normalization: of the encoder, see `encoders.resnet.build`.
      aspp_rates: dilations of the 3x3 branches, for this output stride;
        (12, 24, 36) is usual at 8.
      head: "cps" or "torchvision".
      weights: of the encoder, see `weights.pretrained.load`; "" for none.
      dilated_conv: see `layers.dilated.Conv2D`.
      batch_norm: mapping, see `layers.batch_norm.factories`.

    Returns:
      base.Network; its top feature is f"stride{output_stride}".

    Raises:
      ValueError: for an unknown choice or unfit weights.
    """
    base.check_num_classes(num_classes)
    base.check_choice("head", head, HEADS)
    base.check_dilations("aspp_rates", aspp_rates)
    encoder_norm, decoder_norm = batch_norms.factories(batch_norm)
    encoder = resnet.build(
        depth=depth,
        stem=stem,
        stride_on=stride_on,
        output_stride=output_stride,
        multi_grid=multi_grid,
        dilate_first_block=dilate_first_block,
        normalization=normalization,
        dilated_conv=dilated_conv,
        batch_norm=encoder_norm,
    )
    make_decoder = functools.partial(
        Decoder,
        num_classes,
        head=head,
        top=encoder.top,
        rates=aspp_rates,
        batch_norm=decoder_norm,
        dilated_conv=dilated_conv,
    )
    return base.Network(encoder, make_decoder, num_classes, weights)
