# SPDX-License-Identifier: Apache-2.0
"""DeepLab on a dilated VGG16, which weakly supervised papers train.

Lai et al., arXiv 2106.14133 ("Ours, VGG-16", table 5), compare with networks
of this kind; their code for it is not published. Two published heads, by
`head`:
  "large_fov": Chen et al., arXiv 1412.7062, DeepLab-LargeFOV. pool5 (max 3x3),
    pool5a (mean 3x3, zeros beyond the border counted), fc6 (3x3, dilated by
    12, 1024 filters), fc7 (1x1, 1024), classifier. 20,505,429 parameters with
    21 classes, "20.5M" in the paper.
  "aspp": Chen et al., arXiv 1606.00915, DeepLab v2. pool5, then four such
    branches with dilations 6, 12, 18 and 24; their logits are summed.
    37,877,652 parameters with 21 classes.
ReLU and dropout 0.5 follow fc6 and fc7; logits are resized with corners
aligned. There is no BatchNorm, so there is no `batch_norm` option.

pool5a is in the published files, not in the paper's text. Differences on
purpose: only the classifier starts from N(0, 0.01), as in the published files;
fc6 and fc7, which DeepLab cuts out of VGG16's fully connected layers, are
He-normal.
"""

import functools

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.encoders import vgg
from tfseg.networks.layers import convolution, dropout

# The dilations of fc6, one per branch, at output stride 8.
RATES = {"large_fov": (12,), "aspp": (6, 12, 18, 24)}
FILTERS = 1024


class Branch(keras.layers.Layer):
    """fc6 and fc7, each with ReLU and dropout."""

    def __init__(self, rate, dilated_conv):
        super().__init__()
        self.fc6 = convolution.convolution(
            FILTERS, 3, dilation=rate, dilated_conv=dilated_conv, use_bias=True
        )
        self.fc7 = convolution.convolution(FILTERS, use_bias=True)
        self.dropouts = [dropout.Dropout(0.5) for _ in range(2)]

    def call(self, x, training=None):
        for layer, drop in zip((self.fc6, self.fc7), self.dropouts):
            x = drop(tf.nn.relu(layer(x)), training=training)
        return x


class Decoder(base.Decoder):
    """Branches side by side, a classifier each, the sum of their logits.

    The embedding is the branches' fc7 one after the other: 1024 channels per
    branch.
    """

    def __init__(self, num_classes, *, head, top, rates, dilated_conv):
        super().__init__()
        self.head, self.top = head, top
        self.pool = vgg.pool(3, 1)
        self.branches = [Branch(rate, dilated_conv) for rate in rates]
        self.classifiers = [
            convolution.convolution(
                num_classes,
                dtype="float32",
                use_bias=True,
                kernel_initializer=keras.initializers.RandomNormal(0.0, 0.01),
            )
            for _ in rates
        ]

    def embed(self, features, training=None):
        x = self.pool(features[self.top])
        if self.head == "large_fov":
            x = _mean_pool(x)
        maps = [branch(x, training=training) for branch in self.branches]
        return tf.concat(maps, -1)

    def logits(self, embedding, training=None):
        maps = tf.split(embedding, len(self.classifiers), -1)
        return sum(layer(x) for layer, x in zip(self.classifiers, maps))


def build(
    *,
    num_classes,
    output_stride=8,
    pool_size=3,
    head="large_fov",
    rates=None,
    weights="",
    normalization="torch",
    dilated_conv="auto",
):
    """The network.

    Args:
      num_classes: classes including the background.
      output_stride, pool_size, normalization: of the encoder, see
        `encoders.vgg.build`.
      head: "large_fov" or "aspp".
      rates: dilations of fc6, one branch each; None for those of the paper,
        which are for output stride 8.
      weights: of the encoder, see `weights.pretrained.load`; "" for none.
      dilated_conv: see `layers.dilated.Conv2D`.

    Returns:
      base.Network; its top feature is f"stride{output_stride}".

    Raises:
      ValueError: for an unknown choice or unfit weights.
    """
    base.check_num_classes(num_classes)
    base.check_choice("head", head, tuple(RATES))
    rates = RATES[head] if rates is None else rates
    base.check_dilations("rates", rates)
    encoder = vgg.build(
        output_stride=output_stride,
        pool_size=pool_size,
        normalization=normalization,
        dilated_conv=dilated_conv,
    )
    make_decoder = functools.partial(
        Decoder,
        num_classes,
        head=head,
        top=encoder.top,
        rates=rates,
        dilated_conv=dilated_conv,
    )
    return base.Network(encoder, make_decoder, num_classes, weights)


def _mean_pool(x):
    """3x3 means at stride 1 that count zeros beyond the border, as Caffe."""
    return tf.nn.avg_pool2d(convolution.pad(x, 1), 3, 1, "VALID")
