# SPDX-License-Identifier: Apache-2.0
"""DeepLabv3+ on small encoders, for a laptop.

The decoder of `deeplab_v3_plus` (Chen et al., arXiv 1802.02611) on MobileNetV3,
EfficientNetV2 or MiT, see `encoders.light`. Their output stride is 32, half the
resolution of the usual 16, so the default dilations of the ASPP are half of
(6, 12, 18). BatchNorm has momentum 0.99 and epsilon 1e-3, with which
MobileNetV3 and EfficientNetV2 were published.
"""

import functools

from tfseg.networks import base, deeplab_v3_plus
from tfseg.networks.encoders import light
from tfseg.networks.layers import batch_norm as batch_norms


def build(
    *,
    num_classes,
    encoder="mobilenet_v3_small",
    aspp_rates=(3, 6, 9),
    head="cps",
    weights="",
    normalization="torch",
    dilated_conv="auto",
    batch_norm=None,
):
    """The network.

    Args:
      num_classes: classes including the background.
      encoder: one of `encoders.light.NAMES`.
      aspp_rates: dilations of the 3x3 branches.
      head: one of `deeplab_v3_plus.HEADS`.
      weights: of the encoder, see `weights.pretrained.load`; "" for none.
      normalization: of the encoder, see `base.NORMALIZATIONS`.
      dilated_conv: see `layers.dilated.Conv2D`.
      batch_norm: mapping, see `layers.batch_norm.factories`.

    Returns:
      base.Network; its top feature is "stride32".

    Raises:
      ValueError: for an unknown choice or unfit weights.
    """
    base.check_num_classes(num_classes)
    base.check_choice("encoder", encoder, light.NAMES)
    base.check_choice("head", head, tuple(deeplab_v3_plus.HEADS))
    base.check_dilations("aspp_rates", aspp_rates)
    encoder_norm, decoder_norm = batch_norms.factories(
        batch_norm, momentum=0.99, epsilon=1e-3
    )
    body = light.build(
        name=encoder, normalization=normalization, batch_norm=encoder_norm
    )
    make_decoder = functools.partial(
        deeplab_v3_plus.Decoder,
        num_classes,
        head=deeplab_v3_plus.HEADS[head],
        top=body.top,
        rates=aspp_rates,
        batch_norm=decoder_norm,
        dilated_conv=dilated_conv,
    )
    return base.Network(body, make_decoder, num_classes, weights)
