# SPDX-License-Identifier: Apache-2.0
"""Two crops of one resized image, `first` and `second`, that overlap.

The image is resized once and both crops are cut from its whole pixels, a
multiple of the features' stride apart; each is flipped and changed in color
on its own, its labels, if there are any, flipped with it. The first crop is
uniform over the image. The second is uniform over all that lie in the image,
are a multiple of the stride away and have an IoU in the given range: of that
conditional law, no draw is refused.

Source: Lai et al., CVPR 2021 (arXiv 2106.14133), section 4.1; official
dataloaders/voc.py:70-185. There the second crop is drawn and snapped toward
the upper left until the IoU fits, 50 times at most: the same law, but that
the least offset upward or leftward is up to 15 / 8 as likely as others, the
largest one downward or rightward down to 1 / 8. As there, the same crop comes
twice where nothing fits, here only if 1 is not in the range.
Differs: an image smaller than the crop lies anywhere in it (at the same place
in both), not in its upper left corner; the scale is relative to the image, as
in the other views; vertical flips and swapped axes are possible.
"""

import numpy as np
import tensorflow as tf

from tfseg.data import geometry


def view(image, label, seed, augmentation):
    """Two overlapping crops, both with changed colors, and the way between.

    `ops.overlap` brings their features into correspondence.

    Args:
      image: uint8 [H, W, 3].
      label: int32 [H, W], pseudo labels, 255 = none; or None.
      seed: int32 [2].
      augmentation: data.augmentation.Augmentation; `overlap_range` and
        `overlap_stride` are of this view.

    Returns:
      dict: first and second float32 [h, w, 3] in [0, 255]; first_valid and
      second_valid bool [h, w], False on padding; matrix float32 [3, 3] of
      whole numbers, pixel indices (x, y, 1) of the first crop to those of the
      second; with a label also first_label and second_label int32 [h, w],
      that of the nearest pixel, 255 on padding.

    Raises:
      ValueError: the crop is no multiple of the stride, no offset gives an
        IoU in the range, or there is a rotation.
    """
    choices = _choices(augmentation)
    seeds = tf.unstack(tf.random.split(seed, 5), num=5)
    draw = tf.random.stateless_uniform([4], seeds[0])
    factor = geometry.scale_factor(draw[3], augmentation.scale)
    corners = _corners(
        tf.shape(image)[:2], factor, draw[:3], choices, augmentation.crop
    )
    windows = [
        _window(corner, turn_seed, augmentation)
        for corner, turn_seed in zip(corners, seeds[1:3])
    ]
    resize = geometry.window_matrix(
        0.0, 0.0, factor, crop=augmentation.crop, flip=False
    )
    example = {"matrix": geometry.between(*windows)}
    for name, window, color_seed in zip(
        ("first", "second"), windows, seeds[3:]
    ):
        matrix = resize @ window
        crop, valid = augmentation.warp_image(image, matrix)
        example[name] = augmentation.strong(crop, valid, color_seed)
        example[f"{name}_valid"] = valid
        if label is not None:
            example[f"{name}_label"] = augmentation.warp_label(label, matrix)
    return example


def offsets(crop, stride, iou_range):
    """Offsets between two crops whose IoU lies in a range.

    Args:
      crop: (height, width), pixels.
      stride: both parts of an offset are multiples of it, pixels.
      iou_range: (low, high), both included, in [0, 1].

    Returns:
      int32 array [N, 2], (y, x), pixels. The crops always overlap, also if
      the range begins at 0.
    """
    down, right = (
        np.arange(-((side - 1) // stride), (side - 1) // stride + 1) * stride
        for side in crop
    )
    common = np.outer(crop[0] - abs(down), crop[1] - abs(right))
    iou = common / (2 * crop[0] * crop[1] - common)
    rows, columns = np.nonzero((iou >= iou_range[0]) & (iou <= iou_range[1]))
    return np.stack([down[rows], right[columns]], -1).astype(np.int32)


def _corners(image_size, factor, draw, choices, crop):
    """int32 [2] twice: (top, left) of the crops in the resized image.

    Args:
      image_size: int32 [2], height and width, pixels.
      factor: float32 scalar, resized pixels per pixel.
      draw: float32 [3], uniform in [0, 1).
      choices: int32 [N, 2], of `offsets`.
      crop: (height, width), pixels.
    """
    resized = tf.floor(tf.cast(image_size, tf.float32) * factor)
    room = tf.cast(resized, tf.int32) - crop
    first = tf.sign(room) * _below(tf.abs(room) + 1, draw[:2])
    fitting = tf.boolean_mask(choices, _fits(first, room, choices))
    chosen = _below(tf.shape(fitting)[0], draw[2])
    # One more row, for where nothing fits: the same crop.
    return first, first + tf.pad(fitting, [[0, 1], [0, 0]])[chosen]


def _fits(first, room, choices):
    """bool [N]: the second crop lies in the resized image, or holds all of it.

    Padding counts as a part of the image, so that both crops have it alike.
    """
    second = tf.maximum(first, 0) + choices
    inside = (second >= 0) & (second <= tf.maximum(room, 0))
    return tf.reduce_all(inside, -1)


def _below(count, draw):
    """int32 in [0, count), uniform if `draw` is uniform in [0, 1)."""
    return tf.cast(tf.cast(count, tf.float32) * draw, tf.int32)


def _window(corner, seed, augmentation):
    """float32 [3, 3], a flipped crop's pixels to those of the resized image."""
    place = [*tf.unstack(tf.cast(corner, tf.float32)), tf.ones([])]
    flip = tf.random.stateless_uniform([], seed) < augmentation.flip_rate
    rates = (augmentation.vertical_flip_rate, augmentation.transpose_rate)
    if not any(rates):
        return geometry.window_matrix(*place, crop=augmentation.crop, flip=flip)
    turn = geometry.random_turn(flip, seed, 0.0, *rates)
    return geometry.turned_window(*place, turn, crop=augmentation.crop)


def _choices(augmentation):
    """int32 array [N, 2], the offsets of the settings."""
    crop, stride = augmentation.crop, augmentation.overlap_stride
    if any(side % stride for side in crop):
        raise ValueError(
            "View overlap_pair needs a `config.data.crop` of multiples of "
            f"`config.data.overlap_stride`. Received: {crop[0]} x {crop[1]} "
            f"and {stride}. Fix: choose such a crop, or the stride of the "
            "features."
        )
    if augmentation.rotation:
        raise ValueError(
            "View overlap_pair needs `config.data.rotation` to be 0: features "
            "of rotated crops do not lie on each other. Received: "
            f"{augmentation.rotation}. Fix: set it to 0."
        )
    choices = offsets(crop, stride, augmentation.overlap_range)
    if not len(choices):
        low, high = augmentation.overlap_range
        raise ValueError(
            f"No two crops of {crop[0]} x {crop[1]} pixels, a multiple of "
            f"`config.data.overlap_stride`={stride} apart, have an IoU in "
            f"`config.data.overlap_range`=({low}, {high}). Fix: widen the "
            "range, or include 1."
        )
    return choices
