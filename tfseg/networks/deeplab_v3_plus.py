# SPDX-License-Identifier: Apache-2.0
"""DeepLabv3+ on a dilated ResNet (Chen et al., arXiv 1802.02611).

Three published heads, by `head`:
  "cps": Chen et al., arXiv 2106.01226, TorchSemiSeg exp.voc/*/network.py. One
    BatchNorm over the concatenated ASPP branches, LeakyReLU 0.01, the pooled
    branch added, [aspp, low-level] in the decoder, corners aligned. 40,475,957
    trainable parameters with the deep-stem ResNet-50 and 21 classes.
  "cac": Lai et al., arXiv 2106.14133, models/modeling. A normalized ASPP of
    1280 channels with dropout, [aspp, low-level] and more dropout in the
    decoder and before the classifier, corners aligned. 40,352,181 with the
    plain-stem ResNet-50 and 21 classes; their projector is the method's.
  "torchvision": French et al., arXiv 1906.01916, architectures/
    deeplab3plus.py. The same ASPP, [low-level, aspp] in the decoder without
    further dropout, corners not aligned. As many parameters; 59,344,309 with
    ResNet-101.
The defaults are CPS's. Lai et al. use head="cac" and stem="plain". French et
al. use head="torchvision", stem="plain", depth=101, output_stride=8,
aspp_rates=(12, 24, 36), multi_grid=(1, 1, 1) and dilate_first_block=False.
"""

import functools
import typing

import tensorflow as tf

from tfseg.networks import base
from tfseg.networks.encoders import resnet
from tfseg.networks.layers import aspp
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, dropout

FILTERS = 256
LOW_LEVEL_FILTERS = 48


class Head(typing.NamedTuple):
    """What the published heads differ in.

    `merge_dropout` comes after the first 3x3 convolution of the decoder,
    `classifier_dropout` before the classifier.
    """

    pooling: typing.Callable
    align_corners: bool
    low_level_first: bool = False
    merge_dropout: float = 0.0
    classifier_dropout: float = 0.0


HEADS = {
    "cps": Head(aspp.SummedPooling, align_corners=True),
    "cac": Head(
        aspp.ConcatenatedPooling,
        align_corners=True,
        merge_dropout=0.5,
        classifier_dropout=0.1,
    ),
    "torchvision": Head(
        aspp.ConcatenatedPooling, align_corners=False, low_level_first=True
    ),
}


class Decoder(base.Decoder):
    """ASPP on the top feature, joined with the one at stride 4.

    Args:
      num_classes: C.
      head: Head.
      top: name of the top feature.
      rates, dilated_conv: of the ASPP.
      batch_norm: function that makes a BatchNorm layer.
    """

    def __init__(
        self, num_classes, *, head, top, rates, batch_norm, dilated_conv
    ):
        super().__init__()
        self.top, self.align_corners = top, head.align_corners
        self.low_level_first = head.low_level_first
        self.pooling = head.pooling(
            FILTERS, rates, batch_norm=batch_norm, dilated_conv=dilated_conv
        )
        self.low_level = convolution.ConvBatchNorm(
            LOW_LEVEL_FILTERS, batch_norm=batch_norm
        )
        self.merge = [
            convolution.ConvBatchNorm(FILTERS, 3, batch_norm=batch_norm)
            for _ in range(2)
        ]
        self.merge_dropout = dropout.Dropout(head.merge_dropout)
        self.classifier_dropout = dropout.Dropout(head.classifier_dropout)
        self.classifier = convolution.classifier(num_classes, FILTERS)

    def embed(self, features, training=None):
        low = self.low_level(features["stride4"], training=training)
        high = self.pooling(features[self.top], training=training)
        high = self.resize(high, tf.shape(low)[1:3])
        first, second = self.merge
        x = tf.concat([low, high] if self.low_level_first else [high, low], -1)
        x = self.merge_dropout(first(x, training=training), training=training)
        return second(x, training=training)

    def logits(self, embedding, training=None):
        x = self.classifier_dropout(embedding, training=training)
        return self.classifier(x)


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
      head: "cps", "cac" or "torchvision".
      weights: of the encoder, see `weights.pretrained.load`; "" for none.
      dilated_conv: see `layers.dilated.Conv2D`.
      batch_norm: mapping, see `layers.batch_norm.factories`.

    Returns:
      base.Network; its top feature is f"stride{output_stride}".

    Raises:
      ValueError: for an unknown choice or unfit weights.
    """
    base.check_num_classes(num_classes)
    base.check_choice("head", head, tuple(HEADS))
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
        head=HEADS[head],
        top=encoder.top,
        rates=aspp_rates,
        batch_norm=decoder_norm,
        dilated_conv=dilated_conv,
    )
    return base.Network(encoder, make_decoder, num_classes, weights)
