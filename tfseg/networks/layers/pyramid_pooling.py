# SPDX-License-Identifier: Apache-2.0
"""The pyramid pooling module of PSPNet (Zhao et al., arXiv 1612.01105).

Means over grids of bins, a 1x1 convolution each, resized to the map
(align_corners=False), joined with the map and merged by a 3x3 convolution.

The result is that of the published code, but the resized maps never exist:
resizing and convolving are linear, so the pooled channels pass the 3x3 kernel
while they are n x n, and only then are spread over the map. With 2048
channels and four grids that is half of the multiplications and of the memory.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, pooling, resize


class PyramidPooling(keras.layers.Layer):
    """[B, H, W, C] -> [B, H, W, filters], not negative.

    Args:
      filters: channels of the result.
      bins: side of each grid; may exceed that of the map.
      hidden: channels of a branch.
      batch_norm: function that makes a BatchNorm layer.
      initializer: function that makes an initializer of the kernels.

    Source: CCT models/encoder.py, _PSPModule; CSAIL models.py, PPM.
    """

    def __init__(
        self,
        filters,
        bins,
        *,
        hidden,
        batch_norm=batch_norms.factory(),
        initializer=convolution.kaiming_normal,
    ):
        super().__init__()
        self.bins = list(bins)
        self.branches = [
            convolution.ConvBatchNorm(hidden, batch_norm=batch_norm)
            for _ in bins
        ]
        for branch in self.branches:
            branch.convolution.kernel_initializer = initializer()
        self.merge = Merge(filters, initializer())
        self.merge_norm = batch_norm()

    def call(self, x, training=None):
        grids = pooling.average_to_grids(x, self.bins)
        grids = [
            branch(grid, training=training)
            for branch, grid in zip(self.branches, grids)
        ]
        x = self.merge([x, *grids])
        return tf.nn.relu(self.merge_norm(x, training=training))


class Merge(keras.layers.Layer):
    """3x3 convolution, without bias, of a map joined with resized grids.

    Takes a list: [B, H, W, C], then grids [B, n, n, K]. The channels of the
    kernel are those of the map, then of each grid.

    Args:
      filters: channels of the result.
      kernel_initializer: of all of the kernel.
    """

    def __init__(self, filters, kernel_initializer):
        super().__init__()
        self.filters, self.kernel_initializer = filters, kernel_initializer

    def build(self, shapes):
        channels = sum(shape[-1] for shape in shapes)
        self.kernel = self.add_weight(
            "kernel",
            [3, 3, channels, self.filters],
            initializer=self.kernel_initializer,
        )
        super().build(shapes)

    def call(self, maps):
        x, *grids = maps
        kernels = tf.split(self.kernel, [m.shape[-1] for m in maps], axis=2)
        spread = _spread(grids, kernels[1:], tf.shape(x)[1:3])
        return tf.nn.conv2d(x, kernels[0], 1, "SAME") + tf.cast(spread, x.dtype)


def _spread(grids, kernels, size):
    """float32 [B, *size, F]: 3x3 convolutions of resized grids, summed."""
    height, width = size[0], size[1]
    rows, products = [], []
    for grid, kernel in zip(grids, kernels):
        bins, filters = grid.shape[1], kernel.shape[3]
        # Every grid cell times every tap, then the taps over the columns.
        taps = tf.einsum("bpqc,ijcf->bipjqf", grid, kernel)
        taps = tf.reshape(taps, [-1, 3 * bins, filters])
        taps = tf.matmul(_taps(bins, width), tf.cast(taps, tf.float32))
        products.append(tf.reshape(taps, [-1, 3 * bins, width * filters]))
        rows.append(_taps(bins, height))
    result = tf.matmul(tf.concat(rows, 1), tf.concat(products, 1))
    return tf.reshape(result, [-1, height, width, filters])


def _taps(bins, length):
    """float32 [length, 3 * bins]: what each tap of a kernel sees of each bin.

    Resizing is linear, so the resized identity is its matrix.
    """
    matrix = tf.eye(bins)[None, :, None]
    matrix = resize.bilinear(matrix, (length, 1), align_corners=False)
    matrix = tf.pad(matrix[0, :, 0], [[1, 1], [0, 0]])
    return tf.concat([matrix[i : i + length] for i in range(3)], 1)
