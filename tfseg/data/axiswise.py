# SPDX-License-Identifier: Apache-2.0
"""Warps in which rows stay rows, along one axis after the other.

Both times along the first axis, where a neighbor is a whole row. To append a
row of what stands outside of the source, and to take it from there, costs less
than to replace pixels afterwards.
"""

import tensorflow as tf


def inside(image_size, matrix, *, crop):
    """bool [height] and [width]: does the row, the column lie in the image?

    Args:
      image_size: int32 [2], height and width of the source, pixels.
      matrix: float32 [3, 3], output to source, diagonal but for its last
        column.
      crop: (height, width) of the output, pixels.
    """
    size = tf.unstack(tf.cast(image_size, tf.float32))
    return tuple(
        (places >= -0.5) & (places <= side - 0.5)
        for places, side in zip(_places(matrix, crop), size)
    )


def resample(image, matrix, within, pad_color):
    """Bilinear.

    Args:
      image: uint8 [H, W, 3], all of the source that is needed.
      matrix: float32 [3, 3], output to `image`.
      within: of `inside`.
      pad_color: RGB, 0..255.

    Returns:
      float32 [height, width, 3] in [0, 255].
    """
    crop = [side.shape[0] for side in within]
    rows, columns = _places(matrix, crop)
    size = tf.shape(image)
    color = tf.constant(pad_color, tf.float32)
    flat = tf.reshape(tf.transpose(image, [1, 0, 2]), [size[1], -1])
    flat = tf.cast(flat, tf.float32)
    outside = tf.tile(color, size[:1])
    flat = _between_rows(flat, columns, within[1], outside)
    flat = tf.transpose(tf.reshape(flat, [crop[1], size[0], 3]), [1, 0, 2])
    flat = tf.reshape(flat, [size[0], 3 * crop[1]])
    outside = tf.tile(color, crop[1:])
    flat = _between_rows(flat, rows, within[0], outside)
    return tf.reshape(flat, [*crop, 3])


def pick(label, matrix, within, ignore_label):
    """Nearest neighbors.

    Args:
      label: int32 [H, W], all of the source that is needed.
      matrix, within: see `resample`.
      ignore_label: value of padding.

    Returns:
      int32 [height, width].
    """
    size = tf.unstack(tf.shape(label))
    crop = [side.shape[0] for side in within]
    label = tf.pad(label, [[0, 1], [0, 1]], constant_values=ignore_label)
    # Halves away from zero, as the kernel of a general warp has it.
    rows, columns = (
        tf.where(
            valid,
            tf.clip_by_value(
                tf.cast(tf.sign(at) * tf.floor(tf.abs(at) + 0.5), tf.int32),
                0,
                side - 1,
            ),
            side,
        )
        for at, valid, side in zip(_places(matrix, crop), within, size)
    )
    # Whole rows of the transposed one: columns would go number by number.
    picked = tf.transpose(tf.gather(tf.transpose(label), columns))
    return tf.gather(picked, rows)


def _places(matrix, crop):
    """Source rows and columns of the output's."""
    return tuple(
        matrix[axis, axis] * tf.range(side, dtype=tf.float32) + matrix[axis, 2]
        for axis, side in ((1, crop[0]), (0, crop[1]))
    )


def _between_rows(image, places, valid, outside):
    """Weighted means of two rows, or the row `outside` where not `valid`.

    Args:
      image: float32 [H, n].
      places: float32 [m], which rows.
      valid: bool [m].
      outside: float32 [n].

    Returns:
      float32 [m, n].
    """
    count, total = places.shape[0], tf.shape(image)[0]
    low = tf.floor(places)
    index = tf.cast(low, tf.int32)[:, tf.newaxis] + [0, 1]
    index = tf.clip_by_value(index, 0, total - 1)
    weights = tf.stack([low + 1 - places, places - low], 1)
    # Most crops have no padding, and to append a row is to copy all.
    image = tf.cond(
        tf.reduce_all(valid),
        lambda: image,
        lambda: tf.concat([image, outside[tf.newaxis]], 0),
    )
    valid = valid[:, tf.newaxis]
    index = tf.reshape(tf.where(valid, index, total), [-1])
    weights = tf.reshape(tf.where(valid, weights, [1.0, 0.0]), [-1])
    # A sparse product goes once over its rows; to gather two, weight and add
    # them takes one and a half to three times as long.
    entries = tf.stack([tf.repeat(tf.range(count), 2), index], 1)
    matrix = tf.SparseTensor(
        tf.cast(entries, tf.int64),
        weights,
        tf.cast([count, tf.shape(image)[0]], tf.int64),
    )
    return tf.sparse.sparse_dense_matmul(matrix, image)
