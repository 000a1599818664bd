# SPDX-License-Identifier: Apache-2.0
"""Distances between patches, and where classes meet, in whole numbers.

Pixels are whole numbers, so the sums of their squared differences are too, and
int64 holds them: cumulative sums lose nothing, however large the image. In
float32 they would cancel.

A distance is the L2 norm of the difference of two patches, all channels
together, in units of an image in [0, 1].
"""

import numpy as np

# The value of white.
UNIT = 255
IGNORE_LABEL = 255


def box_sums(values, patch):
    """Sums over the window around each pixel that has a whole one.

    Two passes of cumulative sums: the cost does not depend on the window.

    Args:
      values: whole numbers [..., H, W].
      patch: side of the window, 1..min(H, W), pixels.

    Returns:
      int64 [..., H - patch + 1, W - patch + 1].
    """
    sums = _window_sums(values, patch)
    return _window_sums(sums.swapaxes(-1, -2), patch).swapaxes(-1, -2)


def _window_sums(values, patch):
    """`box_sums` along the last axis alone."""
    cumulative = np.cumsum(values, -1, dtype=np.int64)
    sums = cumulative[..., patch - 1 :].copy()
    sums[..., 1:] -= cumulative[..., :-patch]
    return sums


def neighbor_distances(image, patch):
    """Mean distance from each patch to those one pixel beside it.

    The difference of two patches that are one pixel apart is a patch of the
    difference image. So the squared distances of all of them are one box
    filter of the squared differences.

    Args:
      image: uint8 [H, W, C].
      patch: odd side, pixels; the image is mirrored at its edges, with the
        pixels of the edge, where a patch reaches out of it.

    Returns:
      float64 [H, W], mean over the patches left, right, above and below.

    Source: French et al. 2020, supplement B.1; patch_dist.py:60-114. There the
    four directions are filtered one by one; here one filter serves left and
    right, the other above and below: a pair is the right one of its left
    pixel and the left one of its right pixel.
    """
    margin = patch // 2 + 1
    padded = np.pad(
        image.astype(np.int32),
        [[margin] * 2, [margin] * 2, [0] * 2],
        "symmetric",
    )
    across = _pair_distances(padded[1:-1], 1, patch)
    down = _pair_distances(padded[:, 1:-1], 0, patch)
    total = across[:, :-1] + across[:, 1:] + down[:-1] + down[1:]
    return total / 4


def _pair_distances(padded, axis, patch):
    """Distances of the patches at both sides of each gap along an axis."""
    squared = (np.diff(padded, axis=axis) ** 2).sum(-1)
    return np.sqrt(box_sums(squared, patch)) / UNIT


def class_changes(label):
    """Where neighboring pixels belong to two classes.

    Args:
      label: int [H, W]; 255 is no class.

    Returns:
      (bool [H - 1, W], of each pixel and the one below; bool [H, W - 1], of
      each pixel and the one to its right).
    """

    def differ(one, other):
        known = (one != IGNORE_LABEL) & (other != IGNORE_LABEL)
        return known & (one != other)

    return (
        differ(label[:-1], label[1:]),
        differ(label[:, :-1], label[:, 1:]),
    )


def class_edges(label):
    """Pixels with another class beside them: bool [H, W].

    Source: patch_dist.py:34-44. There the outermost pixels are never edges.
    """
    below, right = class_changes(label)
    edges = np.zeros(label.shape, bool)
    edges[:-1] |= below
    edges[1:] |= below
    edges[:, :-1] |= right
    edges[:, 1:] |= right
    return edges
