# SPDX-License-Identifier: Apache-2.0
"""Box masks for CutMix and Cutout.

Source: French et al., BMVC 2020, section 3.2 and supplement D.3; official
mask_gen.py:57-117, which CPS uses too. Drawing the random numbers is apart
from turning them into boxes, so that the boxes can be checked exactly.
"""

import tensorflow as tf

from tfseg import lookup
from tfseg.ops import draws


def box_masks(
    proportion,
    aspect,
    position,
    *,
    size,
    by_size=False,
    within_bounds=True,
    random_aspect=True,
    invert=True,
    shrink_fixed_aspect_twice=False,
    wrap_negative_corners=False,
):
    """Masks of boxes that are combined by XOR, from given uniform draws.

    Args:
      proportion: float64 [N, n], share of the image's area in a mask's n
        boxes together, in [0, 1]; with `by_size`, height of a box over the
        image's. 0 gives an empty box, 1 (n = 1) the whole image.
      aspect: float64 [N, n] in [0, 1]: height = proportion^aspect and
        width = proportion / height; with `by_size`, width of a box over the
        image's. Not used without `random_aspect`.
      position: float64 [N, n, 2] in [0, 1], y and x.
      size: (H, W), ints or int32 tensors, pixels.
      by_size: `proportion` and `aspect` are sides, not area and shape.
      within_bounds: boxes lie wholly inside; False: `position` is the center,
        and what lies across the border is cut off.
      random_aspect: False: boxes have the shape of the image.
      invert: 1 inside the boxes, 0 outside; False: the other way round.
      shrink_fixed_aspect_twice: as the official code, without `random_aspect`,
        takes 1/n off both sides' product twice, so that n boxes cover
        proportion / n instead of proportion.
      wrap_negative_corners: as the official code, without `within_bounds`,
        reads a negative corner as counted from the far border, so that a box
        across the top or left border mostly vanishes.

    Returns:
      float32 [N, H, W, 1] in {0, 1}.

    Differs: the two bugs of the official code are off unless asked for, and
    a proportion of 0 raises no NaN.
    """
    # float64 as numpy: rounding to whole pixels must agree.
    proportion = tf.cast(proportion, tf.float64)
    size = tf.convert_to_tensor(size, tf.int32)
    share = _sides(proportion, aspect, by_size, random_aspect)
    shrink = tf.sqrt(1.0 / tf.cast(tf.shape(proportion)[1], tf.float64))
    share *= shrink
    if shrink_fixed_aspect_twice and not random_aspect:
        share *= shrink
    extent = tf.cast(size, tf.float64)
    start, stop = _corners(
        tf.round(share * extent),
        tf.cast(position, tf.float64),
        extent,
        within_bounds,
    )
    if wrap_negative_corners:
        start = tf.where(start < 0, start + size, start)
    inside = _paint(start, stop, size)
    return inside if invert else 1 - inside


def random_box_masks(
    num_masks,
    seed,
    *,
    size,
    proportion_range,
    num_boxes,
    by_size,
    within_bounds,
    random_aspect,
    invert,
    shrink_fixed_aspect_twice,
    wrap_negative_corners,
):
    """Random box masks, a pure function of the seed, with and without XLA.

    Args:
      num_masks: int or int32 tensor, N.
      seed: int32 [2] tensor.
      size: (H, W), pixels.
      proportion_range: (low, high) in [0, 1], see `box_masks`.
      num_boxes: n, boxes a mask.
      by_size: this and the others: see `box_masks`.
      within_bounds: bool.
      random_aspect: bool.
      invert: bool.
      shrink_fixed_aspect_twice: bool.
      wrap_negative_corners: bool.

    Returns:
      float32 [N, H, W, 1] in {0, 1}.

    Raises:
      ValueError: if the range or the number of boxes is wrong.
    """
    _check_numbers(proportion_range, num_boxes)
    low, high = proportion_range
    drawn = draws.uniform([num_masks, num_boxes, 4], seed)
    scaled = low + (high - low) * drawn
    return box_masks(
        scaled[..., 0],
        scaled[..., 1] if by_size else drawn[..., 1],
        drawn[..., 2:],
        size=size,
        by_size=by_size,
        within_bounds=within_bounds,
        random_aspect=random_aspect,
        invert=invert,
        shrink_fixed_aspect_twice=shrink_fixed_aspect_twice,
        wrap_negative_corners=wrap_negative_corners,
    )


def check_boxes(boxes):
    """Checks options of `random_box_masks`, all of them but `size`.

    Args:
      boxes: mapping, `config.method.boxes`.

    Raises:
      ValueError: names an unknown or missing option, or a wrong value.
    """
    lookup.check_arguments(
        random_box_masks, {"size"} | set(boxes), "config.method.boxes"
    )
    _check_numbers(boxes["proportion_range"], boxes["num_boxes"])


def _check_numbers(proportion_range, num_boxes):
    where = "config.method.boxes"
    low, high = proportion_range
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"`{where}.proportion_range` must be (low, high) with 0 <= low <= "
            f"high <= 1. Received: ({low}, {high})."
        )
    if num_boxes < 1:
        raise ValueError(
            f"`{where}.num_boxes` must be at least 1. Received: {num_boxes}."
        )


def _sides(proportion, aspect, by_size, random_aspect):
    """float64 [N, n, 2]: height and width as shares of the image's."""
    if not random_aspect:
        side = proportion if by_size else tf.sqrt(proportion)
        return tf.stack([side, side], -1)
    aspect = tf.cast(aspect, tf.float64)
    if by_size:
        return tf.stack([proportion, aspect], -1)
    safe = tf.where(proportion > 0, proportion, 1.0)
    height = tf.exp(aspect * tf.math.log(safe))
    sides = tf.stack([height, safe / height], -1)
    return tf.where(proportion[..., tf.newaxis] > 0, sides, 0.0)


def _corners(sides, position, extent, within_bounds):
    """int32 [N, n, 2] twice: first pixel of a box, and first one after it."""
    if within_bounds:
        start = tf.round((extent - sides) * position)
        stop = start + sides
    else:
        center = tf.round(extent * position)
        start, stop = center - sides * 0.5, center + sides * 0.5
    # The cast truncates toward zero, as the official int().
    return tf.cast(start, tf.int32), tf.cast(stop, tf.int32)


def _paint(start, stop, size):
    """float32 [N, H, W, 1]: 1 where an odd number of boxes lies."""

    def covered(axis):
        pixel = tf.range(size[axis])
        low, high = start[..., axis, tf.newaxis], stop[..., axis, tf.newaxis]
        return tf.cast((pixel >= low) & (pixel < high), tf.float32)

    count = tf.einsum("nby,nbx->nyx", covered(0), covered(1))
    return tf.math.floormod(count, 2.0)[..., tf.newaxis]
