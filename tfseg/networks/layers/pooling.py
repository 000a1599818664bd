# SPDX-License-Identifier: Apache-2.0
"""Max pooling as PyTorch does it, and pooling to a grid of bins."""

import tensorflow as tf
from tensorflow import keras


class MaxPool2D(keras.layers.Layer):
    """torch.nn.MaxPool2d: symmetric -inf padding, sizes rounded up on demand.

    Args:
      size: side of the window, pixels.
      stride: pixels.
      margin: padding on every side, pixels; at most half of `size`.
      ceil_mode: also keep a last window that is partly outside, provided that
        it starts inside the map or its padding at the top and left.
    """

    def __init__(self, size, stride, margin, ceil_mode=False):
        super().__init__()
        self.size, self.stride, self.margin = size, stride, margin
        self.ceil_mode = ceil_mode

    def call(self, x):
        rows, columns = (
            [self.margin, self.margin + self._extra(tf.shape(x)[axis])]
            for axis in (1, 2)
        )
        lowest = tf.constant(x.dtype.min, x.dtype)
        x = tf.pad(x, [[0, 0], rows, columns, [0, 0]], constant_values=lowest)
        return tf.nn.max_pool2d(x, self.size, self.stride, "VALID")

    def _extra(self, length):
        """Pixels to add after the map, so that the last window is whole."""
        if not self.ceil_mode:
            return 0
        excess = length + 2 * self.margin - self.size
        windows = -(-excess // self.stride) + 1
        starts_inside = (windows - 1) * self.stride < length + self.margin
        windows -= tf.cast(tf.logical_not(starts_inside), tf.int32)
        needed = (windows - 1) * self.stride + self.size
        return tf.maximum(needed - length - 2 * self.margin, 0)


def average_to_grids(x, bins):
    """Means over the windows of an n x n grid, for every n of `bins`.

    torch.nn.AdaptiveAvgPool2d for several sizes in one matrix product. Window
    i of n is floor(i * H / n) to ceil((i + 1) * H / n): windows overlap where
    n does not divide H, and repeat pixels where the map is smaller than n.

    Args:
      x: floating [B, H, W, C].
      bins: list of int, each at least 1.

    Returns:
      A list of maps [B, n, n, C] of the dtype of `x`, summed in float32.
    """
    batch, height, width, channels = tf.unstack(tf.shape(x))
    pixels = tf.reshape(x, [batch, height * width, channels])
    shares = [
        tf.reshape(
            _windows(n, height)[:, None, :, None] * _windows(n, width)[:, None],
            [n * n, height * width],
        )
        for n in bins
    ]
    means = tf.matmul(tf.concat(shares, 0), tf.cast(pixels, tf.float32))
    parts = tf.split(tf.cast(means, x.dtype), [n * n for n in bins], axis=1)
    return [
        tf.reshape(part, [batch, n, n, x.shape[3]])
        for n, part in zip(bins, parts)
    ]


def _windows(count, length):
    """float32 [count, length]: the share of each pixel in each mean."""
    index, position = tf.range(count)[:, None], tf.range(length)
    start = index * length // count
    end = -(-(index + 1) * length // count)
    inside = tf.logical_and(position >= start, position < end)
    return tf.cast(inside, tf.float32) / tf.cast(end - start, tf.float32)
