# SPDX-License-Identifier: Apache-2.0
"""Class activation maps: an encoder and a classifier of images, as a network.

Zhou et al., arXiv 1512.04150, as CCT (Ouali et al., arXiv 2003.09005; code
yassouali/CCT, pseudo_labels/) makes pseudo labels from labels of images. A
bias-free 1x1 convolution on the top feature gives a map for each class but the
background, whose logit is always 0. A convolution of this kind and the mean
over pixels can change places, so the mean of `decoder.logits` over pixels is
the score that the official classifier gives to a pooled feature.

Where a map is positive it is evidence for its class, and as a network for
segmentation this one takes the class with the most evidence, and the
background where there is none.

Official: a plain ResNet-50 at output stride 16, whose last stage keeps its
stride at 1 without dilation; ours, as everywhere, dilates it, so that it
computes what the weights were trained for. Its BatchNorm is frozen, and so are
stem and first two stages; here they are trained.
"""

import collections.abc
import functools

import tensorflow as tf

from tfseg import lookup
from tfseg.networks import base
from tfseg.networks.layers import convolution


class Decoder(base.Decoder):
    """Maps of the foreground classes, after the background's zeros.

    Args:
      num_classes: C.
      top: name of the feature that is classified.
    """

    align_corners = False

    def __init__(self, num_classes, top):
        super().__init__()
        self.top = top
        self.classifier = convolution.convolution(
            num_classes - 1,
            dtype="float32",
            kernel_initializer=convolution.pytorch_default(),
        )

    def embed(self, features, training=None):
        return features[self.top]

    def logits(self, embedding, training=None):
        maps = self.classifier(embedding)
        return tf.concat([tf.zeros_like(maps[..., :1]), maps], -1)


def build(*, num_classes, backbone=None):
    """The network.

    Args:
      num_classes: classes including the background.
      backbone: mapping, the network whose encoder it takes, as in
        `config.network`: its name, and options of its `build`, among them
        published weights. None for {"name": "fcn"}.

    Returns:
      base.Network with the encoder, and the top feature, of `backbone`.

    Raises:
      ValueError: an unknown network or option, or what that network refuses.
    """
    base.check_num_classes(num_classes)
    options = _options({"name": "fcn"} if backbone is None else backbone)
    leaf = lookup.module("networks", options.pop("name"))
    lookup.check_arguments(
        leaf.build,
        options | {"num_classes": num_classes},
        "config.network.backbone",
    )
    encoder = leaf.build(num_classes=num_classes, **options).encoder
    make_decoder = functools.partial(Decoder, num_classes, encoder.top)
    return base.Network(encoder, make_decoder, num_classes)


def _options(backbone):
    is_mapping = isinstance(backbone, collections.abc.Mapping)
    if not is_mapping or "name" not in backbone or "num_classes" in backbone:
        raise ValueError(
            "`config.network.backbone` must be a network's name and options, "
            "but for the number of classes, for example {'name': 'fcn'}. "
            f"Received: {backbone!r}."
        )
    return dict(backbone)
