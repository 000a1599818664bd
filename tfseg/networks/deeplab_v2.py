# SPDX-License-Identifier: Apache-2.0
"""DeepLab v2 on a dilated ResNet (Chen et al., arXiv 1606.00915).

The ResNet is Caffe's: stride on the first 1x1 convolution of a block, sizes
rounded up by the max pooling, dilation 2 in all of stage 3 and 4 in all of
stage 4, so output stride 8. Four 3x3 classifiers, with dilations 6, 12, 18
and 24, work side by side on the last stage; their sum is resized to the image
with the corners aligned. 42,500,160 + 1,548,372 parameters with depth 101 and
21 classes.

French et al., arXiv 1906.01916 (architectures/deeplab2.py) return from inside
the loop over the branches, so that only the first two are summed:
`classifier_branches="first_two"`. The others are then in the checkpoint but
do not learn. They also start all of the ResNet at N(0, 0.01) before its
ImageNet weights are put in; here it starts as every ResNet. Both papers
freeze BatchNorm in the ResNet: `batch_norm=dict(frozen=True)`.
"""

import functools

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.encoders import resnet
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution

BRANCHES = ("all", "first_two")


class ParallelClassifiers(keras.layers.Layer):
    """Sum of dilated 3x3 convolutions with bias, float32.

    Args:
      num_classes: channels of each, and of the sum.
      rates: their dilations.
      used: how many are summed, counted from the first.
      dilated_conv: "native" computes one after the other. Otherwise one
        matrix product serves all taps of all branches; on a CPU that takes
        half of the time forward and a third of it while training.
    """

    def __init__(self, num_classes, rates, used, dilated_conv):
        super().__init__(dtype="float32")
        self.rates, self.used = list(rates), used
        self.native = dilated_conv == "native"
        self.num_classes, self.dilated_conv = num_classes, dilated_conv

    def build(self, shape):
        self.branches = [
            convolution.convolution(
                self.num_classes,
                3,
                dilation=rate,
                dilated_conv=self.dilated_conv,
                use_bias=True,
                kernel_initializer=keras.initializers.RandomNormal(0, 0.01),
                bias_initializer=convolution.pytorch_default(9 * shape[-1]),
                dtype="float32",
            )
            for rate in self.rates
        ]
        for branch in self.branches:
            branch.build(shape)
        super().build(shape)

    def call(self, x):
        used = self.branches[: self.used]
        if self.native:
            return tf.add_n([branch(x) for branch in used])
        biases = tf.add_n([branch.bias for branch in used])
        kernels = [branch.kernel for branch in used]
        return _sum_of_convolutions(x, kernels, self.rates) + biases


def _sum_of_convolutions(x, kernels, rates):
    """All taps of all kernels in one product, then moved to where they act."""
    channels, filters = kernels[0].shape[2:]
    weights = [
        tf.reshape(tf.transpose(kernel, [2, 0, 1, 3]), [channels, 9 * filters])
        for kernel in kernels
    ]
    products = tf.tensordot(x, tf.concat(weights, 1), 1)
    moves = [
        (row * rate, column * rate)
        for rate in rates[: len(kernels)]
        for row in (-1, 0, 1)
        for column in (-1, 0, 1)
    ]
    taps = tf.split(products, len(moves), axis=3)
    return tf.add_n([_moved(tap, *move) for tap, move in zip(taps, moves)])


def _moved(x, down, right):
    """x[:, i + down, j + right] at [:, i, j], zero where that is outside."""
    height, width = tf.unstack(tf.shape(x)[1:3])
    margins = [[max(-step, 0), max(step, 0)] for step in (down, right)]
    x = tf.pad(x, [[0, 0], *margins, [0, 0]])
    top, left = max(down, 0), max(right, 0)
    return x[:, top : top + height, left : left + width]


class Decoder(base.Decoder):
    """Parallel classifiers on the top feature, which is the embedding."""

    def __init__(self, num_classes, *, top, rates, used, dilated_conv):
        super().__init__()
        self.top = top
        self.classifier = ParallelClassifiers(
            num_classes, rates, used, dilated_conv
        )

    def embed(self, features, training=None):
        return features[self.top]

    def logits(self, embedding, training=None):
        return self.classifier(embedding)


def build(
    *,
    num_classes,
    depth=101,
    aspp_rates=(6, 12, 18, 24),
    classifier_branches="all",
    weights="",
    normalization="torch",
    dilated_conv="auto",
    batch_norm=None,
):
    """The network.

    Args:
      num_classes: classes including the background.
      depth: 50, 101 or 152.
      aspp_rates: dilations of the classifiers.
      classifier_branches: "all" or "first_two".
      weights: of the encoder, see `weights.pretrained.load`; "" for none.
      normalization: see `base.NORMALIZATIONS`.
      dilated_conv: see `layers.dilated.Conv2D` and `ParallelClassifiers`.
      batch_norm: mapping, see `layers.batch_norm.factories`.

    Returns:
      base.Network; its top feature is "stride8".

    Raises:
      ValueError: for an unknown choice or unfit weights.
    """
    base.check_num_classes(num_classes)
    base.check_dilations("aspp_rates", aspp_rates)
    base.check_choice("classifier_branches", classifier_branches, BRANCHES)
    encoder_norm, _ = batch_norms.factories(batch_norm)
    encoder = resnet.build(
        depth=depth,
        stem="plain",
        stride_on="1x1",
        output_stride=8,
        multi_grid=(1, 1, 1),
        ceil_pooling=True,
        normalization=normalization,
        dilated_conv=dilated_conv,
        batch_norm=encoder_norm,
    )
    make_decoder = functools.partial(
        Decoder,
        num_classes,
        top=encoder.top,
        rates=aspp_rates,
        used=len(aspp_rates) if classifier_branches == "all" else 2,
        dilated_conv=dilated_conv,
    )
    return base.Network(encoder, make_decoder, num_classes, weights)
