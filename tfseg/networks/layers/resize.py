# SPDX-License-Identifier: Apache-2.0
"""Bilinear resizing as PyTorch's `interpolate` does it."""

import tensorflow as tf


def bilinear(x, size, *, align_corners):
    """Resizes maps bilinearly, without anti-aliasing.

    Args:
      x: floating [B, H, W, C].
      size: int32 [2], height and width of the result; may be dynamic.
      align_corners: True maps corner pixel centers onto each other (CPS,
        DeepLab v2, CAC); False maps image borders (torchvision, PSPNet).

    Returns:
      Of the dtype of `x`, [B, size[0], size[1], C].

    Source: `torch.nn.functional.interpolate`. `tf.image.resize` has no
    `align_corners`. Without it XLA's kernel is wrong (TF 2.15) for sizes such
    as 5 -> 9 or 9 -> 33, so that case is two matrix products here.
    """
    values = tf.cast(x, tf.float32)
    if align_corners:
        values = tf.raw_ops.ResizeBilinear(
            images=values, size=size, align_corners=True
        )
    else:
        values = _resize_by_products(values, size)
    return tf.cast(values, x.dtype)


def _resize_by_products(x, size):
    batch, height, width, channels = tf.unstack(tf.shape(x))
    x = tf.reshape(x, [batch * height, width, channels])
    x = tf.matmul(_interpolation(width, size[1]), x)
    x = tf.reshape(x, [batch, height, size[1] * channels])
    x = tf.matmul(_interpolation(height, size[0]), x)
    return tf.reshape(x, [batch, size[0], size[1], channels])


def _interpolation(before, after):
    """float32 [after, before]: the weights of each result, at most two."""
    last = tf.cast(before - 1, tf.float32)
    position = tf.cast(tf.range(after), tf.float32) + 0.5
    position *= tf.cast(before, tf.float32) / tf.cast(after, tf.float32)
    position = tf.clip_by_value(position - 0.5, 0.0, last)
    distance = position[:, None] - tf.cast(tf.range(before), tf.float32)
    return tf.maximum(0.0, 1.0 - tf.abs(distance))
