# SPDX-License-Identifier: Apache-2.0
"""Anchor, negative and positive patches of a labeled data set.

Source: French et al. 2020, supplement B.2; intra_inter_class_patch_dist.py.
"""

import dataclasses

import numpy as np
from scipy import fft

from tfseg.studies.patches import distances

# Of what is held for the anchors that are searched for at a time.
_BYTES = 2**30
# Subtracted from pixels: smaller numbers, the same distances.
_GRAY = 128
# Sizes of transforms are multiples, so that images of about one size share
# the transforms of the anchors.
_STEP = 32


@dataclasses.dataclass(frozen=True)
class Anchors:
    """N patches at class edges, with the distance to the patch across.

    Attributes:
      patches: uint8 [N, patch, patch, C].
      classes: int [N], of the pixel in the middle.
      images: int [N], position of the image that each is from.
      negatives: float64 [N], distance to the patch around the neighboring
        pixel of another class.
    """

    patches: np.ndarray
    classes: np.ndarray
    images: np.ndarray
    negatives: np.ndarray

    def __len__(self):
        return len(self.classes)

    def __getitem__(self, rows):
        values = (getattr(self, x.name) for x in dataclasses.fields(self))
        return Anchors(*(value[rows] for value in values))


def boundary_pairs(label, patch):
    """Pixels and their neighbors of another class, both in whole patches.

    Args:
      label: int [H, W]; 255 is no class.
      patch: odd side, pixels.

    Returns:
      int [N, 4], row and column of the pixel, then of the neighbor; each pair
      is there from both sides.

    Source: intra_inter_class_patch_dist.py:76-106. There both must be one
    pixel further inside.
    """
    inside = _inside(label, patch)
    changes = distances.class_changes(inside)
    pairs = []
    for change, step in zip(changes, ((1, 0), (0, 1))):
        first = np.argwhere(change) + patch // 2
        pairs.append(np.concatenate([first, first + step], 1))
    pairs = np.concatenate(pairs)
    return np.concatenate([pairs, pairs[:, [2, 3, 0, 1]]])


def _inside(label, patch):
    """The labels in the middle of whole patches."""
    margin = patch // 2
    height, width = label.shape
    return label[margin : height - margin, margin : width - margin]


def draw_anchors(examples, counts, *, number, patch, seed):
    """Draws anchors evenly from all boundary pairs of all images.

    Args:
      examples: iterable of (uint8 [H, W, C], int [H, W]).
      counts: int [M], boundary pairs of each image.
      number: of anchors; all pairs where there are less.
      patch: odd side, pixels.
      seed: of the choice.

    Returns:
      Anchors, in the order of the images.
    """
    total = int(np.sum(counts))
    # The seed alone chooses the images.
    rng = np.random.default_rng([seed, 1])
    drawn = np.sort(rng.choice(total, min(number, total), replace=False))
    starts = np.cumsum(counts) - counts
    parts = []
    for position, (image, label) in enumerate(examples):
        rows = drawn - starts[position]
        rows = rows[(rows >= 0) & (rows < counts[position])]
        if len(rows):
            pairs = boundary_pairs(label, patch)[rows]
            parts.append(_cut(image, label, pairs, patch, position))
    values = zip(*parts)
    return Anchors(*(np.concatenate(value) for value in values))


def _cut(image, label, pairs, patch, position):
    """Fields of the Anchors of one image."""
    windows = np.lib.stride_tricks.sliding_window_view(
        image, (patch, patch), (0, 1)
    )
    y, x, other_y, other_x = pairs.T
    margin = patch // 2
    anchors = np.moveaxis(windows[y - margin, x - margin], 1, -1)
    others = np.moveaxis(windows[other_y - margin, other_x - margin], 1, -1)
    squared = (anchors.astype(np.int64) - others) ** 2
    return (
        anchors,
        label[y, x],
        np.full(len(pairs), position),
        np.sqrt(squared.sum((1, 2, 3))) / distances.UNIT,
    )


def chunks(anchors, sizes):
    """Divides anchors into runs whose transforms fit into memory.

    Args:
      anchors: Anchors.
      sizes: int [M, 2], height and width of the images to search.

    Returns:
      list of Anchors.
    """
    height, width = (_transform_size(n) for n in np.max(sizes, 0))
    channels = anchors.patches.shape[-1]
    # A transform of each channel; their product, what is added to it, and
    # what the search makes of it.
    each = height * width * 8 * (channels + 6)
    length = max(1, _BYTES // each)
    return [anchors[i : i + length] for i in range(0, len(anchors), length)]


class Search:
    """Least distances from anchors to patches of their class elsewhere.

    |x - q|^2 = |x|^2 + |q|^2 - 2 x q, with x q for all places by a Fourier
    transform. The sums are whole numbers; the transform errs by far less than
    one, so that the result is exact.

    Args:
      anchors: Anchors, not too many: see `chunks`.

    Source: intra_inter_class_patch_dist.py:172-236, patch_dist.py:140-160.
    There images are mirrored at their edges; here a positive is a whole patch.
    """

    def __init__(self, anchors):
        self._anchors = anchors
        self._patch = anchors.patches.shape[1]
        self._size = None
        pixels = _centered(anchors.patches)
        self._squares = (pixels**2).sum((1, 2, 3))
        self._least = np.full(len(anchors), np.inf)

    def distances(self):
        """float64 [N]; infinite where no patch of the class was seen."""
        return np.sqrt(self._least) / distances.UNIT

    def look(self, position, image, label):
        """Looks at one image.

        Args:
          position: of the image, as in the anchors.
          image: uint8 [H, W, C].
          label: int [H, W].
        """
        anchors = self._anchors
        label = _inside(label, self._patch)
        known = np.isin(anchors.classes, label)
        rows = np.flatnonzero(known & (anchors.images != position))
        if not len(rows):
            return
        image = _centered(image)
        squares = distances.box_sums((image**2).sum(-1), self._patch)
        height, width = squares.shape
        least = self._products(image, rows)[:, :height, :width]
        least *= -2
        least += squares
        same = label == anchors.classes[rows, None, None]
        least = np.rint(least.min((1, 2), where=same, initial=np.inf))
        least += self._squares[rows]
        self._least[rows] = np.minimum(self._least[rows], least)

    def _products(self, image, rows):
        """Scalar products of patches, at their upper left corners."""
        size = tuple(_transform_size(n) for n in image.shape[:2])
        if size != self._size:
            pixels = np.moveaxis(_centered(self._anchors.patches), -1, 0)
            self._transforms = fft.rfft2(pixels, size, workers=-1).conj()
            self._size = size
        image = fft.rfft2(np.moveaxis(image, -1, 0), size, workers=-1)
        product = sum(
            one[rows] * other for one, other in zip(self._transforms, image)
        )
        return fft.irfft2(product, size, workers=-1)


def _centered(pixels):
    """int64, which scipy transforms in float64."""
    return pixels.astype(np.int64) - _GRAY


def _transform_size(length):
    return fft.next_fast_len(-(-int(length) // _STEP) * _STEP, real=True)
