# SPDX-License-Identifier: Apache-2.0
"""Which features of two overlapping crops show the same place of an image.

Source: Lai et al., CVPR 2021 (arXiv 2106.14133), section 3.2; official
models/model.py:133-174. Differs: it cuts the overlap out, image by image;
here it is a mask, of a shape that XLA knows at compile time.
"""

import typing

import tensorflow as tf

from tfseg.ops import shapes


class Overlap(typing.NamedTuple):
    """Where the second crop shows what the first one does.

    Attributes:
      index: int32 [B, h, w], the row-major position in the features of the
        second crop for each position of the first; 0 outside.
      inside: bool [B, h, w], False where there is no partner, and on padding.
    """

    index: tf.Tensor
    inside: tf.Tensor


def find(matrix, first_valid, second_valid, *, stride=1):
    """The partner of each position in the features of the first crop.

    Args:
      matrix: float32 [B, 3, 3], pixel indices (x, y, 1) of the first crop to
        those of the second: flips, swapped axes and shifts by whole pixels.
      first_valid: bool [B, H, W], False on padding; H and W known.
      second_valid: bool [B, H, W].
      stride: pixels per position of the features: h = H / stride. The shifts
        are multiples of it, so that it divides `config.data.overlap_stride`;
        an image whose positions would meet in part is all outside.

    Returns:
      Overlap; inside are positions of which no pixel is padding.

    Raises:
      ValueError: if a rank is wrong, or the size is no multiple of the stride.
    """
    shapes.check_rank("matrix", matrix, 3)
    first = whole("first_valid", first_valid, stride)
    second = whole("second_valid", second_valid, stride)
    rows, columns, meets = _partners(matrix, first.shape[1:], stride)
    height, width = second.shape[1:]
    inside = first & meets & (rows >= 0) & (rows < height)
    inside &= (columns >= 0) & (columns < width)
    index = tf.where(inside, rows * width + columns, 0)
    return Overlap(index, inside & align(second, index))


def whole(name, valid, stride):
    """Positions of a feature map of which no pixel is padding.

    Args:
      name: of `valid`, for the message.
      valid: bool [B, H, W], False on padding; H and W known.
      stride: pixels per position.

    Returns:
      bool [B, H / stride, W / stride].

    Raises:
      ValueError: if the rank is wrong, or the size is no multiple of the
        stride.
    """
    valid = tf.convert_to_tensor(valid)
    shapes.check_rank(name, valid, 3)
    if any(side is None or side % stride for side in valid.shape[1:]):
        raise ValueError(
            f"`{name}` must have a known size, a multiple of `stride`. "
            f"Received: {valid.shape}, stride={stride}. Fix: set "
            "`config.data.crop` to such a size."
        )
    height, width = valid.shape[1:]
    parts = [-1, height // stride, stride, width // stride, stride]
    return tf.reduce_all(tf.reshape(valid, parts), [2, 4])


def align(x, index):
    """Brings a map of the second crop into the frame of the first.

    Args:
      x: [B, h, w] or [B, h, w, K] of the second crop; features, labels,
        confidences, of any type.
      index: int32 [B, h, w], of `Overlap`.

    Returns:
      Shape and type of `x`; meaningless outside of the overlap.

    Raises:
      ValueError: if a rank or the size of `x` is wrong.
    """
    x = tf.convert_to_tensor(x)
    shapes.check_rank("x", x, (3, 4))
    shapes.check_rank("index", index, 3)
    size = index.shape[1:]
    if not x.shape[1:3].is_compatible_with(size):
        raise ValueError(
            f"`x` must have the size of `index`, {size}. Received: "
            f"{x.shape[1:3]}. Fix: find the overlap at the stride of `x`."
        )
    flat = tf.reshape(x, [-1, size[0] * size[1], *x.shape[3:]])
    return tf.gather(flat, index, batch_dims=1)


def _partners(matrix, size, stride):
    """Row and column, int32 [B, h, w]; whether positions meet, [B, 1, 1]."""
    matrix = tf.cast(matrix, tf.float32)
    linear, shift = matrix[:, :2, :2], matrix[:, :2, 2]
    # Position i has its center at pixel stride * i + (stride - 1) / 2.
    shift += (stride - 1) / 2 * (tf.reduce_sum(linear, -1) - 1)
    shift /= stride
    # A quotient may be rounded; a true fraction is 1 / stride at least.
    meets = tf.reduce_all(tf.abs(shift - tf.round(shift)) < 1e-3, -1)
    steps = tf.concat([linear, shift[..., tf.newaxis]], -1)
    steps = tf.cast(tf.round(steps), tf.int32)[..., tf.newaxis, tf.newaxis]
    rows, columns = tf.range(size[0])[:, tf.newaxis], tf.range(size[1])
    place = steps[:, :, 0] * columns + steps[:, :, 1] * rows + steps[:, :, 2]
    return place[:, 1], place[:, 0], meets[:, tf.newaxis, tf.newaxis]
