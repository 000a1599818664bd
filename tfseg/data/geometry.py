# SPDX-License-Identifier: Apache-2.0
"""Random windows of an image, and warps of images, labels and validity.

Geometry is a 3x3 matrix that takes pixel indices (x, y, 1) of the output to
pixel indices of the source, pixel centers at integers. A view draws matrices;
image, label and validity follow them alike, each with its own interpolation.
"""

import tensorflow as tf
import tensorflow_addons as tfa


def random_window(image_size, seed, *, crop, scale, flip_rate):
    """Matrix of a randomly scaled, placed and flipped crop.

    A window that is larger than the image in a direction is placed so that
    it holds the whole image in that direction; the rest is padding.

    Args:
      image_size: int32 [2], height and width of the source, pixels.
      seed: int32 [2].
      crop: (height, width) of the output, pixels.
      scale: (low, high), output pixels per source pixel, log-uniform.
      flip_rate: probability of a horizontal flip, in [0, 1].

    Returns:
      float32 [3, 3].
    """
    draw = tf.random.stateless_uniform([4], seed)
    low, high = tf.math.log(float(scale[0])), tf.math.log(float(scale[1]))
    factor = tf.exp(low + draw[0] * (high - low))
    window = tf.constant(crop, tf.float32) / factor
    room = tf.cast(image_size, tf.float32) - window
    # A whole pixel: at scale 1 the crop is an exact copy.
    top, left = tf.unstack(tf.round(draw[1:3] * room))
    return window_matrix(top, left, factor, crop=crop, flip=draw[3] < flip_rate)


def window_matrix(top, left, factor, *, crop, flip):
    """Matrix of one window, see `random_window`.

    Args:
      top: float32 scalar, upper edge of the window, source pixels.
      left: float32 scalar, left edge of the window, source pixels.
      factor: float32 scalar, output pixels per source pixel.
      crop: (height, width) of the output, pixels.
      flip: bool scalar, mirrored left to right.

    Returns:
      float32 [3, 3].
    """
    step = 1.0 / factor
    x_step = tf.where(flip, -step, step)
    x_first = left + tf.where(flip, crop[1] - 0.5, 0.5) * step - 0.5
    y_first = top + 0.5 * step - 0.5
    zero, one = tf.zeros([]), tf.ones([])
    return tf.stack(
        [[x_step, zero, x_first], [zero, step, y_first], [zero, zero, one]]
    )


def warp_image(image, matrix, *, crop, pad_color):
    """Bilinear warp; outside of the source stands `pad_color`.

    Args:
      image: uint8 [H, W, 3].
      matrix: float32 [3, 3], output to source.
      crop: (height, width) of the output, pixels.
      pad_color: RGB, 0..255.

    Returns:
      float32 [height, width, 3] in [0, 255], and bool [height, width] that is
      False on padding.
    """
    valid = inside(tf.shape(image)[:2], matrix, crop=crop)
    part, matrix = _needed_part(image, matrix, crop)
    warped = _transform(tf.cast(part, tf.float32), matrix, crop, "bilinear")
    return pad(warped, valid, pad_color), valid


def pad(image, valid, pad_color):
    """`pad_color` where `valid` is False; image float32 [H, W, 3]."""
    color = tf.constant(pad_color, tf.float32)
    return tf.where(valid[..., None], image, color)


def warp_label(label, matrix, *, crop, ignore_label=255):
    """Nearest-neighbor warp; outside of the source stands `ignore_label`.

    Args:
      label: int32 [H, W].
      matrix: float32 [3, 3], output to source.
      crop: (height, width) of the output, pixels.
      ignore_label: value of padding.

    Returns:
      int32 [height, width].
    """
    valid = inside(tf.shape(label), matrix, crop=crop)
    part, matrix = _needed_part(label[..., None], matrix, crop)
    warped = _transform(part, matrix, crop, "nearest")[..., 0]
    return tf.where(valid, warped, ignore_label)


def inside(image_size, matrix, *, crop):
    """bool [height, width]: does the output pixel come from the image?"""
    rows, columns = tf.meshgrid(
        tf.range(crop[0], dtype=tf.float32),
        tf.range(crop[1], dtype=tf.float32),
        indexing="ij",
    )
    points = tf.stack([columns, rows, tf.ones_like(rows)], -1)
    source = tf.einsum("ij,hwj->hwi", matrix[:2], points)
    size = tf.cast(image_size[::-1], tf.float32)
    within = (source >= -0.5) & (source <= size - 0.5)
    valid = tf.reduce_all(within, -1)
    valid.set_shape(crop)
    return valid


def _needed_part(image, matrix, crop):
    """Cuts the source to what the window touches: large images stay uint8."""
    corners = tf.constant(
        [[0, 0, 1], [crop[1] - 1, crop[0] - 1, 1]], tf.float32
    )
    source = tf.einsum("ij,nj->ni", matrix[:2], corners)
    limit = tf.shape(image)[1::-1] - 1
    low = tf.cast(tf.floor(tf.reduce_min(source, 0)), tf.int32)
    high = tf.cast(tf.math.ceil(tf.reduce_max(source, 0)), tf.int32)
    low, high = tf.clip_by_value(low, 0, limit), tf.clip_by_value(
        high, 0, limit
    )
    part = image[low[1] : high[1] + 1, low[0] : high[0] + 1]
    shift = tf.pad(tf.cast(low, tf.float32)[:, None], [[0, 1], [2, 0]])
    return part, matrix - shift


def _transform(image, matrix, crop, interpolation):
    warped = tfa.image.transform(
        image,
        tf.reshape(matrix, [9])[:8],
        interpolation=interpolation,
        fill_mode="nearest",
        output_shape=crop,
    )
    warped.set_shape([*crop, image.shape[-1]])
    return warped
