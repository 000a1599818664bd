# SPDX-License-Identifier: Apache-2.0
"""The plane of the toy: which class is where, and how far the boundary is.

Points are (y, x) in [-1, 1], y down, as in the official code; pixels are flat
row-major indices into the image.
"""

import numpy as np
import tensorflow as tf
from scipy import ndimage


def ground_truth(size):
    """The drawn image: an S-shaped curve with class 1 below it.

    Args:
      size: side, pixels.

    Returns:
      bool [size, size].
    """
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    # The shift of x by y makes the curve lean, as one drawn by hand does.
    fold = np.sin(1.5 * np.pi * (x + 0.15 * np.sin(3 * y)))
    return y > 0.05 + 0.5 * fold + 0.08 * np.cos(5 * x)


def signed_distance(truth):
    """How far each pixel is from the nearest one of the other class.

    Args:
      truth: bool [size, size], both classes occur.

    Returns:
      float32 [size, size], in units in which the image is 2 wide, between the
      centers of pixels; negative in class 0.
    """
    inside = ndimage.distance_transform_edt(truth)
    outside = ndimage.distance_transform_edt(~truth)
    return ((inside - outside) * 2 / len(truth)).astype(np.float32)


def away(distance, gap):
    """int32 [N]: pixels more than `gap` away from the boundary."""
    return np.flatnonzero(np.abs(distance) > gap).astype(np.int32)


def labeled(distance, *, count, gap, band, seed):
    """Draws labeled pixels on both sides of the boundary, all along it.

    Of each class one from each of count / 2 equal strips of columns, of the
    pixels whose distance from the boundary is in (gap, gap + band).

    Args:
      distance: float32 [size, size], see `signed_distance`.
      count: even number of pixels.
      gap, band: in the units of `distance`.
      seed: int, of the choice.

    Returns:
      int32 [count], class 0 first.
    """
    generator = np.random.default_rng(seed)
    near = away(distance, gap)
    near = near[np.abs(distance.ravel()[near]) < gap + band]
    truth = distance.ravel()[near] > 0
    strip = near % len(distance) * (count // 2) // len(distance)
    return np.array(
        [
            generator.choice(near[(truth == label) & (strip == number)])
            for label in (False, True)
            for number in range(count // 2)
        ],
        np.int32,
    )


def points(pixels, size):
    """The centers of pixels.

    Args:
      pixels: int32 [N], an array or a tensor.
      size: side of the image, pixels.

    Returns:
      float32 tensor [N, 2].
    """
    rows_columns = tf.stack([pixels // size, pixels % size], -1)
    return (tf.cast(rows_columns, tf.float32) + 0.5) / size * 2 - 1


def sample(image, points):
    """Bilinear values of an image; beyond its edges the nearest ones.

    Args:
      image: float32 [size, size], size >= 2.
      points: float32 [N, 2].

    Returns:
      float32 [N].
    """
    size = image.shape[0]
    position = (points + 1) * size / 2 - 0.5
    position = tf.clip_by_value(position, 0.0, size - 1.0)
    corner = tf.minimum(tf.floor(position), size - 2.0)
    share = position - corner
    index = tf.cast(corner, tf.int32)
    total = 0.0
    for row, row_weight in ((0, 1 - share[:, 0]), (1, share[:, 0])):
        for column, column_weight in ((0, 1 - share[:, 1]), (1, share[:, 1])):
            values = tf.gather_nd(image, index + [row, column])
            total += values * row_weight * column_weight
    return total


def along_contour(distance, points, perturbed, tolerance):
    """Which perturbations keep the distance from the boundary.

    Args:
      distance: float32 [size, size], see `signed_distance`.
      points, perturbed: float32 [N, 2].
      tolerance: in the units of `distance`; reached is enough.

    Returns:
      float32 [N] in {0, 1}.

    Source: French et al. 2020, supplement C.
    """
    change = sample(distance, perturbed) - sample(distance, points)
    return tf.cast(tf.abs(change) <= tolerance, tf.float32)
