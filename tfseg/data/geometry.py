# SPDX-License-Identifier: Apache-2.0
"""Random windows of an image, and warps of images, labels and validity.

Geometry is a 3x3 matrix that takes pixel indices (x, y, 1) of the output to
pixel indices of the source, pixel centers at integers. A view draws matrices;
image, label and validity follow them alike, each with its own interpolation.

Matrices agree with OpenCV's resize, flips and rotations, so with the official
code of French et al. (datapipe/affine.py, seg_transforms_cv.py), which stores
their inverses. Differs: what lies outside of the source is padding, not valid
and not reflected; a crop turns about its center (size - 1) / 2, not size / 2.
"""

import math
import typing

import tensorflow as tf
import tensorflow_addons as tfa

from tfseg.data import axiswise


class Turn(typing.NamedTuple):
    """How a crop lies on the source: the picture is turned, then flipped.

    Attributes:
      angle: float32 scalar, radians; counterclockwise on the screen.
      flip: bool scalar, mirrored left to right.
      vertical_flip: bool scalar, mirrored top to bottom.
      transpose: bool scalar, x and y swapped, after the other flips.
    """

    angle: typing.Any
    flip: typing.Any
    vertical_flip: typing.Any
    transpose: typing.Any


def random_window(
    image_size,
    seed,
    *,
    crop,
    scale,
    flip_rate,
    rotation=0.0,
    vertical_flip_rate=0.0,
    transpose_rate=0.0,
):
    """Matrix of a randomly scaled, placed, turned and flipped crop.

    A window that is larger than the image in a direction is placed so that
    it holds the whole image in that direction; the rest is padding. It is
    placed before it is turned, so that its corners may leave the image.

    Args:
      image_size: int32 [2], height and width of the source, pixels.
      seed: int32 [2].
      crop: (height, width) of the output, pixels.
      scale: (low, high), output pixels per source pixel, log-uniform.
      flip_rate: probability of a horizontal flip, in [0, 1].
      rotation: degrees; the angle is uniform in +-rotation.
      vertical_flip_rate: probability of a vertical flip, in [0, 1].
      transpose_rate: probability of swapping x and y, in [0, 1]; the crop is
        square if it is not 0.

    Returns:
      float32 [3, 3].
    """
    draw = tf.random.stateless_uniform([4], seed)
    factor = scale_factor(draw[0], scale)
    window = tf.constant(crop, tf.float32) / factor
    room = tf.cast(image_size, tf.float32) - window
    # A whole pixel: at scale 1 the crop is an exact copy.
    top, left = tf.unstack(tf.round(draw[1:3] * room))
    flip = draw[3] < flip_rate
    if not (rotation or vertical_flip_rate or transpose_rate):
        return window_matrix(top, left, factor, crop=crop, flip=flip)
    turn = random_turn(flip, seed, rotation, vertical_flip_rate, transpose_rate)
    return turned_window(top, left, factor, turn, crop=crop)


def scale_factor(draw, scale):
    """float32 scalar, log-uniform in `scale` if `draw` is uniform in [0, 1)."""
    low, high = tf.math.log(float(scale[0])), tf.math.log(float(scale[1]))
    return tf.exp(low + draw * (high - low))


def random_turn(flip, seed, rotation, vertical_flip_rate, transpose_rate):
    """Turn with a given `flip`; see `random_window` for the rest.

    `seed` is folded once more, so that what else is drawn from it stays as it
    was before there were turns.
    """
    draw = tf.random.stateless_uniform([3], tf.random.fold_in(seed, 1))
    return Turn(
        angle=(2 * draw[0] - 1) * math.radians(rotation),
        flip=flip,
        vertical_flip=draw[1] < vertical_flip_rate,
        transpose=draw[2] < transpose_rate,
    )


def turned_window(top, left, factor, turn, *, crop):
    """float32 [3, 3], `window_matrix` of a turned and flipped crop."""
    window = window_matrix(
        top, left, factor, crop=crop, flip=tf.constant(False)
    )
    return window @ turn_matrix(turn, crop=crop)


def turn_matrix(turn, *, crop):
    """Matrix of a turn about the center of a crop, at scale 1.

    Args:
      turn: Turn.
      crop: (height, width) of the output, pixels.

    Returns:
      float32 [3, 3], exact where the angle is 0.
    """
    x_last, y_last = crop[1] - 1.0, crop[0] - 1.0
    cosine, sine = tf.cos(turn.angle), tf.sin(turn.angle)
    x_sign = tf.where(turn.flip, -1.0, 1.0)
    y_sign = tf.where(turn.vertical_flip, -1.0, 1.0)
    linear = tf.stack([[cosine, -sine], [sine, cosine]]) * [x_sign, y_sign]
    center = tf.constant([[x_last], [y_last]]) / 2
    matrix = tf.concat([linear, center - linear @ center], 1)
    matrix = tf.where(
        turn.transpose, tf.gather(matrix, [1, 0, 2], axis=1), matrix
    )
    return tf.concat([matrix, [[0.0, 0.0, 1.0]]], 0)


def between(start, end):
    """Matrix from the pixels of one window to those of another.

    Args:
      start: float32 [3, 3], a window's pixel indices to those of the source.
      end: float32 [3, 3], likewise; affine, invertible.

    Returns:
      float32 [3, 3], inverse(end) @ start.
    """
    # Not tf.linalg.inv: exact for flips and whole pixels, and the large
    # distance of both windows from the origin cancels before it is scaled.
    (a, b), (c, d) = (tf.unstack(row) for row in tf.unstack(end[:2, :2]))
    inverse = tf.stack([[d, -b], [-c, a]]) / (a * d - b * c)
    shift = tf.pad(end[:2, 2:], [[0, 0], [2, 0]])
    return tf.concat([inverse @ (start[:2] - shift), start[2:]], 0)


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


def warp_image(image, matrix, *, crop, pad_color, upright=False):
    """Bilinear warp; outside of the source stands `pad_color`.

    Args:
      image: uint8 [H, W, 3].
      matrix: float32 [3, 3], output to source.
      crop: (height, width) of the output, pixels.
      pad_color: RGB, 0..255.
      upright: rows stay rows, so that `matrix` is diagonal but for its last
        column: faster, the same but for rounding.

    Returns:
      float32 [height, width, 3] in [0, 255], and bool [height, width] that is
      False on padding.
    """
    size = tf.shape(image)[:2]
    part, part_matrix = _needed_part(image, matrix, crop)
    if upright:
        rows, columns = axiswise.inside(size, matrix, crop=crop)
        warped = axiswise.resample(
            part, part_matrix, (rows, columns), pad_color
        )
        return warped, rows[:, None] & columns[None]
    valid = inside(size, matrix, crop=crop)
    part = tf.cast(part, tf.float32)
    warped = _transform(part, part_matrix, crop, "bilinear")
    return pad(warped, valid, pad_color), valid


def pad(image, valid, pad_color, *, upright=False):
    """`pad_color` where `valid` is False.

    Args:
      image: float32 [H, W, 3].
      valid: bool [H, W].
      pad_color: RGB, 0..255.
      upright: `valid` is a rectangle: faster.
    """
    # Most crops have no padding; and to broadcast along three channels is slow.
    return tf.cond(
        tf.reduce_all(valid),
        lambda: image,
        lambda: _pad_somewhere(image, valid, pad_color, upright),
    )


def _pad_somewhere(image, valid, pad_color, upright):
    height, width, channels = image.shape
    flat = [height, width * channels]
    if upright:
        rows, columns = tf.reduce_any(valid, 1), tf.reduce_any(valid, 0)
        keep = rows[:, None] & tf.repeat(columns, channels)[None]
    else:
        keep = tf.reshape(tf.tile(valid[..., None], [1, 1, channels]), flat)
    color = tf.tile(tf.constant(pad_color, tf.float32), [width])
    padded = tf.where(
        keep, tf.reshape(image, flat), tf.broadcast_to(color, flat)
    )
    return tf.reshape(padded, image.shape)


def warp_label(label, matrix, *, crop, ignore_label=255, upright=False):
    """Nearest-neighbor warp; outside of the source stands `ignore_label`.

    Args:
      label: int32 [H, W].
      matrix: float32 [3, 3], output to source.
      crop: (height, width) of the output, pixels.
      ignore_label: value of padding.
      upright: see `warp_image`; the same to the last bit.

    Returns:
      int32 [height, width].
    """
    size = tf.shape(label)
    part, part_matrix = _needed_part(label[..., None], matrix, crop)
    if upright:
        within = axiswise.inside(size, matrix, crop=crop)
        return axiswise.pick(part[..., 0], part_matrix, within, ignore_label)
    warped = _transform(part, part_matrix, crop, "nearest")[..., 0]
    return tf.where(inside(size, matrix, crop=crop), warped, ignore_label)


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
    right, bottom = crop[1] - 1, crop[0] - 1
    corners = tf.constant(
        [[0, 0, 1], [right, bottom, 1], [right, 0, 1], [0, bottom, 1]],
        tf.float32,
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
