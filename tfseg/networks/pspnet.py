# SPDX-License-Identifier: Apache-2.0
"""PSPNet (Zhao et al., arXiv 1612.01105) on a dilated deep-stem ResNet.

Two forms that the papers train, by `head`; neither has an auxiliary loss:
  "cac": Lai et al., arXiv 2106.14133, with the encoder of CCT. The kernels of
    the head have PyTorch's default initializer; logits are resized with the
    corners aligned.
  "csail": French et al., arXiv 1906.01916, through the semantic-segmentation
    library of CSAIL, decoder "ppm". Kaiming-normal kernels, dropout of whole
    channels before the classifier, corners not aligned. That library starts
    the shift of BatchNorm at 1e-4; here it starts at 0.
Both pool to 512 channels at stride 8, on which the classifier works, and take
a ResNet whose dilated stages keep their first block as it was. Lai et al.
train depth 50, French et al. 101. 46,716,373 parameters with depth 50 and 21
classes.
"""

import functools
import typing

from tfseg.networks import base
from tfseg.networks.encoders import resnet
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, dropout, pyramid_pooling

FILTERS = 512


class Head(typing.NamedTuple):
    """What the published forms differ in."""

    initializer: typing.Callable
    channel_dropout: float
    align_corners: bool


HEADS = {
    "cac": Head(convolution.pytorch_default, 0.0, True),
    "csail": Head(convolution.kaiming_normal, 0.1, False),
}


class Decoder(base.Decoder):
    """Pyramid pooling of the top feature, then a 1x1 classifier.

    Args:
      num_classes: C.
      head: Head.
      encoder: base.Encoder.
      bins: of the pyramid.
      batch_norm: function that makes a BatchNorm layer.
    """

    def __init__(self, num_classes, *, head, encoder, bins, batch_norm):
        super().__init__()
        self.top, self.align_corners = encoder.top, head.align_corners
        self.pyramid = pyramid_pooling.PyramidPooling(
            FILTERS,
            bins,
            hidden=encoder.feature_channels[encoder.top] // len(bins),
            batch_norm=batch_norm,
            initializer=head.initializer,
        )
        self.dropout = dropout.Dropout(head.channel_dropout, True)
        self.classifier = convolution.classifier(num_classes, FILTERS)
        self.classifier.kernel_initializer = head.initializer()

    def embed(self, features, training=None):
        return self.pyramid(features[self.top], training=training)

    def logits(self, embedding, training=None):
        return self.classifier(self.dropout(embedding, training=training))


def build(
    *,
    num_classes,
    depth=50,
    bins=(1, 2, 3, 6),
    head="cac",
    weights="",
    normalization="torch",
    dilated_conv="auto",
    batch_norm=None,
):
    """The network.

    Args:
      num_classes: classes including the background.
      depth: 50, 101 or 152.
      bins: side of each grid of the pyramid.
      head: "cac" or "csail".
      weights: of the encoder, see `weights.pretrained.load`; "" for none.
      normalization: see `base.NORMALIZATIONS`.
      dilated_conv: see `layers.dilated.Conv2D`.
      batch_norm: mapping, see `layers.batch_norm.factories`.

    Returns:
      base.Network; its top feature is "stride8".

    Raises:
      ValueError: for an unknown choice or unfit weights.
    """
    base.check_num_classes(num_classes)
    base.check_choice("head", head, tuple(HEADS))
    if not bins or min(bins) < 1:
        raise ValueError(
            "`bins` must be sides of grids, all at least 1. "
            f"Received: bins={tuple(bins)}."
        )
    encoder_norm, decoder_norm = batch_norms.factories(batch_norm)
    encoder = resnet.build(
        depth=depth,
        output_stride=8,
        multi_grid=(1, 1, 1),
        dilate_first_block=False,
        normalization=normalization,
        dilated_conv=dilated_conv,
        batch_norm=encoder_norm,
    )
    make_decoder = functools.partial(
        Decoder,
        num_classes,
        head=HEADS[head],
        encoder=encoder,
        bins=bins,
        batch_norm=decoder_norm,
    )
    return base.Network(encoder, make_decoder, num_classes, weights)
