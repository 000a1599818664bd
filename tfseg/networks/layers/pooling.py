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
