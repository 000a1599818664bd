# SPDX-License-Identifier: Apache-2.0
"""One crop twice: `weak` as it is, `strong` with changed colors."""

import tensorflow as tf


def view(image, label, seed, augmentation):
    """One crop, and the same crop with color jitter, gray and blur.

    Args:
      image: uint8 [H, W, 3].
      label: None; this view is for unlabeled images.
      seed: int32 [2].
      augmentation: data.augmentation.Augmentation.

    Returns:
      dict: weak and strong float32 [h, w, 3] in [0, 255]; valid bool [h, w],
      False on padding.
    """
    del label
    seeds = tf.unstack(tf.random.split(seed, 2), num=2)
    matrix = augmentation.random_window(tf.shape(image)[:2], seeds[0])
    weak, valid = augmentation.warp_image(image, matrix)
    strong = augmentation.strong(weak, valid, seeds[1])
    return {"weak": weak, "strong": strong, "valid": valid}
