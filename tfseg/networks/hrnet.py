# SPDX-License-Identifier: Apache-2.0
"""HRNetV2 with the segmentation head of its paper.

Sun et al., arXiv 1904.04514; HRNet/HRNet-Semantic-Segmentation,
lib/models/seg_hrnet.py, and CPS (Chen et al., arXiv 2106.01226), TorchSemiSeg
furnace/base_model/hrnet.py. The four branches, brought to stride 4 and
concatenated, go through a 1x1 convolution with bias, BatchNorm and ReLU to the
1x1 classifier. Head kernels start from N(0, 0.001²), as published; those of
the encoder do not, see `encoders.hrnet`. BatchNorm has (Keras) momentum 0.99.
"""

import functools

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.encoders import hrnet
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution

MOMENTUM = 0.99


def _convolution(filters, fan_in, **options):
    """1x1, with a bias that starts as in PyTorch."""
    return convolution.convolution(
        filters,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
        use_bias=True,
        bias_initializer=convolution.pytorch_default(fan_in),
        **options,
    )


class Decoder(base.Decoder):
    """One map from all four; the embedding has as many channels as they."""

    def __init__(self, num_classes, *, channels, batch_norm, align_corners):
        super().__init__()
        self.names = list(channels)
        self.align_corners = align_corners
        filters = sum(channels.values())
        self.merge = _convolution(filters, filters)
        self.merge_norm = batch_norm()
        self.classifier = _convolution(num_classes, filters, dtype="float32")

    def embed(self, features, training=None):
        first, *rest = (features[name] for name in self.names)
        size = tf.shape(first)[1:3]
        maps = [first, *(self.resize(x, size) for x in rest)]
        x = self.merge(tf.concat(maps, -1))
        return tf.nn.relu(self.merge_norm(x, training=training))

    def logits(self, embedding, training=None):
        return self.classifier(embedding)


def build(
    *,
    num_classes,
    width=48,
    align_corners=True,
    weights="",
    normalization="torch",
    batch_norm=None,
):
    """The network.

    Args:
      num_classes: classes including the background.
      width: channels of the largest branch: 18, 32 or 48.
      align_corners: of all bilinear resizing. True in CPS and in the official
        code for PyTorch 1.1 and later; False in that for PyTorch 0.4.
      weights: of the encoder, see `weights.pretrained.load`; "" for none.
      normalization: of the encoder, see `base.NORMALIZATIONS`.
      batch_norm: mapping, see `layers.batch_norm.factories`.

    Returns:
      base.Network; its top feature is "stride32", the smallest branch.

    Raises:
      ValueError: for an unknown choice or unfit weights.
    """
    base.check_num_classes(num_classes)
    encoder_norm, decoder_norm = batch_norms.factories(
        batch_norm, momentum=MOMENTUM
    )
    encoder = hrnet.build(
        width=width,
        align_corners=align_corners,
        normalization=normalization,
        batch_norm=encoder_norm,
    )
    make_decoder = functools.partial(
        Decoder,
        num_classes,
        channels=encoder.feature_channels,
        batch_norm=decoder_norm,
        align_corners=align_corners,
    )
    return base.Network(encoder, make_decoder, num_classes, weights)
