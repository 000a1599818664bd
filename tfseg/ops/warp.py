# SPDX-License-Identifier: Apache-2.0
"""Affine warps of predictions and of their validity."""

import tensorflow as tf

from tfseg.ops import shapes


def warp(x, matrix):
    """Bilinear warp of a batch; outside of the input are zeros.

    A neighbor that lies outside counts as 0, so that values fade out over the
    last pixel of the border, and so does a warped validity.

    Args:
      x: [B, H, W, C], predictions; or [B, H, W], validity, bool or a number.
      matrix: float32 [B, 3, 3], affine: takes pixel indices (x, y, 1) of the
        output to pixel indices of the input, pixel centers at integers.

    Returns:
      float32, shape of `x`. Of validity: the share, in [0, 1], of valid pixels
      in each value; what lies outside is not valid.

    Raises:
      ValueError: if a rank is wrong.

    Source: French et al. supplement D.1.1; official datapipe/affine.py:185-232
    and torch.nn.functional.grid_sample (bilinear, zeros, align_corners=True).
    Differs: pixel indices instead of coordinates in [-1, 1], always float32.
    """
    shapes.check_rank("x", x, (3, 4))
    shapes.check_rank("matrix", matrix, 3)
    x = tf.cast(x, tf.float32)
    if len(x.shape) == 3:
        return warp(x[..., tf.newaxis], matrix)[..., 0]
    shape = tf.shape(x)
    columns, rows = _positions(matrix, shape[1], shape[2])
    pixels = tf.reshape(x, [shape[0], shape[1] * shape[2], shape[3]])
    total = 0.0
    for row, row_weight in _neighbors(rows, shape[1]):
        for column, column_weight in _neighbors(columns, shape[2]):
            values = tf.gather(pixels, row * shape[2] + column, batch_dims=1)
            total += values * (row_weight * column_weight)[..., tf.newaxis]
    return tf.reshape(total, shape)


def _positions(matrix, height, width):
    """float32 [B, H * W] twice: input column and row of each output pixel."""
    # Products and sums, because a matrix product on a GPU may round indices
    # to ten bits (TensorFloat-32).
    m = tf.cast(matrix, tf.float32)[:, :2, :, tf.newaxis, tf.newaxis]
    columns = tf.range(width, dtype=tf.float32)
    rows = tf.range(height, dtype=tf.float32)[:, tf.newaxis]
    source = m[:, :, 0] * columns + m[:, :, 1] * rows + m[:, :, 2]
    source = tf.reshape(source, [tf.shape(matrix)[0], 2, height * width])
    return source[:, 0], source[:, 1]


def _neighbors(position, size):
    """Index and weight of the pixels on both sides of a position."""
    low = tf.floor(position)
    share = position - low
    for index, weight in ((low, 1 - share), (low + 1, share)):
        # Clipped before the cast: a position may exceed the integers.
        nearest = tf.clip_by_value(index, 0, tf.cast(size - 1, tf.float32))
        weight = tf.where(nearest == index, weight, 0.0)
        yield tf.cast(nearest, tf.int32), weight
