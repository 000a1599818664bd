# SPDX-License-Identifier: Apache-2.0
"""What pseudo labels look like as a whole."""

import tensorflow as tf

from tfseg.ops import shapes


def class_shares(label, valid, num_classes, normalizer=None):
    """Share of the valid pixels that each class holds.

    Args:
      label: int [B, H, W], class in 0..C-1; anything where not valid.
      valid: bool [B, H, W].
      num_classes: C.
      normalizer: float32 scalar, replaces the number of valid pixels: replicas
        that hold unequal numbers divide by their mean.

    Returns:
      float32 [C], sums to 1; all 0 if no pixel is valid.
    """
    shapes.check_rank("label", label, 3)
    shapes.check_rank("valid", valid, 3)
    label = tf.where(valid, tf.cast(label, tf.int32), num_classes)
    # Unlike bincount, of a size that XLA knows at compile time.
    flat = tf.reshape(label, [-1])
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(flat), flat, num_classes + 1
    )[:num_classes]
    counts = tf.cast(counts, tf.float32)
    if normalizer is None:
        normalizer = tf.reduce_sum(counts)
    return tf.math.divide_no_nan(counts, normalizer)


def agreement(first, second, background=None):
    """On how many pixels two label maps agree, outside of the background.

    Args:
      first: int32 [B, H, W], class in 0..C-1, or 255 = does not count.
      second: int32 [B, H, W]; 255 on the same pixels.
      background: class that is left out where both maps have it; None: none.

    Returns:
      float32 [2]: pixels on which they agree, and pixels that count.

    Raises:
      ValueError: if a rank is wrong.

    Source: Chen et al. 2021, appendix B, which leaves open what the object
    region of an unlabeled image is: here what either map takes for an object.
    """
    shapes.check_rank("first", first, 3)
    shapes.check_rank("second", second, 3)
    counted = first != 255
    if background is not None:
        counted &= (first != background) | (second != background)
    agree = counted & (first == second)
    counts = [tf.reduce_sum(tf.cast(x, tf.int32)) for x in (agree, counted)]
    return tf.cast(tf.stack(counts), tf.float32)
