# SPDX-License-Identifier: Apache-2.0
"""Atrous spatial pyramid pooling, in the two forms that the papers train.

Chen et al., arXiv 1706.05587. Both take a [B, H, W, C] map and return
[B, H, W, filters].
"""

import functools

import tensorflow as tf
from tensorflow import keras

from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, dropout

leaky_relu = functools.partial(tf.nn.leaky_relu, alpha=0.01)


class SummedPooling(keras.layers.Layer):
    """CPS: one BatchNorm over all branches, the pooled branch is added.

    Args:
      filters: channels of the result.
      rates: dilations of the 3x3 branches.
      hidden: channels of a branch; `filters` if None.
      batch_norm: function that makes a BatchNorm layer.
      dilated_conv: see `dilated.Conv2D`.

    Source: TorchSemiSeg exp.voc/*/network.py, ASPP.
    """

    def __init__(
        self,
        filters,
        rates,
        *,
        hidden=None,
        batch_norm=batch_norms.factory(),
        dilated_conv="auto",
    ):
        super().__init__()
        hidden = hidden or filters
        self.branches = [convolution.convolution(hidden)] + [
            convolution.convolution(
                hidden, 3, dilation=rate, dilated_conv=dilated_conv
            )
            for rate in rates
        ]
        self.branch_norm = batch_norm()
        self.pooled_branch = convolution.ConvBatchNorm(
            hidden, activation=leaky_relu, batch_norm=batch_norm
        )
        self.reduce = convolution.convolution(filters)
        self.reduce_pooled = convolution.convolution(filters)
        self.sum_norm = batch_norm()

    def call(self, x, training=None):
        maps = tf.concat([branch(x) for branch in self.branches], -1)
        maps = leaky_relu(self.branch_norm(maps, training=training))
        pooled = tf.reduce_mean(x, [1, 2], keepdims=True)
        pooled = self.pooled_branch(pooled, training=training)
        total = self.reduce(maps) + self.reduce_pooled(pooled)
        return leaky_relu(self.sum_norm(total, training=training))


class ConcatenatedPooling(keras.layers.Layer):
    """torchvision, CAC: normalized branches, concatenated, dropout 0.5.

    Args:
      filters: channels of the result and of a branch.
      rates: dilations of the 3x3 branches.
      batch_norm: function that makes a BatchNorm layer.
      dilated_conv: see `dilated.Conv2D`.

    The pooled branch is one pixel, so it does not matter that one resizes it
    with the corners aligned and the other without.

    Source: torchvision segmentation/deeplabv3.py, ASPP; CAC models/modeling/
    aspp.py.
    """

    def __init__(
        self,
        filters,
        rates,
        *,
        batch_norm=batch_norms.factory(),
        dilated_conv="auto",
    ):
        super().__init__()
        block = functools.partial(
            convolution.ConvBatchNorm,
            filters,
            batch_norm=batch_norm,
            dilated_conv=dilated_conv,
        )
        self.branches = [block()] + [block(3, dilation=rate) for rate in rates]
        self.pooled_branch = block()
        self.reduce = block()
        self.dropout = dropout.Dropout(0.5)

    def call(self, x, training=None):
        maps = [branch(x, training=training) for branch in self.branches]
        pooled = tf.reduce_mean(x, [1, 2], keepdims=True)
        pooled = self.pooled_branch(pooled, training=training)
        maps.append(tf.broadcast_to(pooled, tf.shape(maps[0])))
        x = self.reduce(tf.concat(maps, -1), training=training)
        return self.dropout(x, training=training)
