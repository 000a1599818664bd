# SPDX-License-Identifier: Apache-2.0
"""One crop: `image`, `valid` and, of a labeled image, `label`."""

import tensorflow as tf


def view(image, label, seed, augmentation):
    """One randomly scaled, placed and flipped crop.

    Args:
      image: uint8 [H, W, 3].
      label: int32 [H, W], or None.
      seed: int32 [2].
      augmentation: data.augmentation.Augmentation.

    Returns:
      dict: image float32 [h, w, 3] in [0, 255]; valid bool [h, w], False on
      padding; with a label also label int32 [h, w], 255 on padding.
    """
    matrix = augmentation.random_window(tf.shape(image)[:2], seed)
    crop, valid = augmentation.warp_image(image, matrix)
    example = {"image": crop, "valid": valid}
    if label is not None:
        example["label"] = augmentation.warp_label(label, matrix)
    return example
