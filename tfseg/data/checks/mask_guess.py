# SPDX-License-Identifier: Apache-2.0
"""Guesses how a mask came to hold what is not in its code.

Each guess is (what it looks like, what to do), or None, and goes into the
message of an error. Where all ids are allowed, `looks_lossy` is a warning.
"""

import numpy as np

# Share of the pixels on edges that lie strictly between their neighbors. Of
# drawn masks, also scaled with nearest neighbor, below 1%; of masks saved as
# JPEG (quality 50 to 95) or scaled with bilinear weights mostly above 10%.
_MIXED_SHARE = 0.15
_MIXED_SHARE_OF_WRONG = 0.05
_LEAST_MIXED = 20
# Ids of which this share of the pixels is mixed, and how many there must be:
# a line of one pixel drawn around each object is one such id.
_MIXED_ID_SHARE = 0.3
_MIXED_IDS = 3
# A color mask that was compressed has this many new colors, and most pixels
# differ by little, in any channel, from a color of the palette.
_LOSSY_COLORS = 16
_NEAR_COLOR, _NEAR_SHARE = 48, 0.9
# Pixels that are compared at most.
_MOST_COMPARED = 10_000
# Where the expected values cover half of 0..255, lying by one means nothing.
_MOST_NEAR = 128
LOSSY = (
    "it looks compressed with loss (JPEG) or scaled with interpolation",
    "save the original mask, and scale masks with nearest neighbor",
)


def looks_lossy(values):
    """Whether ids look as JPEG or interpolation leaves them at borders.

    Args:
      values: uint8 [H, W], the ids as stored.
    """
    mixed = _mixed(values)
    if not _many(mixed, _MIXED_SHARE, values):
        return False
    total = np.bincount(values.ravel(), minlength=256)
    of_mixed = np.bincount(values[mixed], minlength=256)
    present = total > 0
    shares = of_mixed[present] / total[present]
    return int((shares > _MIXED_ID_SHARE).sum()) >= _MIXED_IDS


def explain_ids(values, code, num_classes, ignore_label=255):
    """Guess about ids outside the classes.

    Args:
      values: uint8 [H, W], the ids as stored.
      code: mask_code.MaskCode.
      num_classes: ids should be 0..num_classes - 1.
      ignore_label: counts nowhere.
    """
    present = set(np.unique(values).tolist())
    telling = present - {0, 255}
    if num_classes > 2 and _all_near(telling, _stretched(num_classes)):
        return (
            f"they look like 0..{num_classes - 1} stretched to 0..255",
            f"divide the values by {255 / (num_classes - 1):g} and round",
        )
    if _all_near(telling, {_gray(color) for color in code.colors}):
        return (
            "they are the brightness of colors in the palette, so it looks "
            "like a color mask saved as gray",
            "save the color mask itself, or the class ids",
        )
    if present <= {*range(1, num_classes + 1), ignore_label}:
        return (
            f"0 is missing and {num_classes} is there, so they look counted "
            "from 1",
            f"subtract 1, and save what was 0 as {ignore_label}",
        )
    if _many(_mixed(values), _MIXED_SHARE_OF_WRONG, values):
        return LOSSY
    return None


def explain_colors(pixels, colors, num_classes):
    """Guess about colors outside the palette.

    Args:
      pixels: int32 [H, W, 3].
      colors: RGB of the palette.
      num_classes: classes are 0..num_classes - 1.
    """
    found = np.unique(pixels.reshape(-1, 3), axis=0)
    equal = (found == found[:, :1]).all()
    if equal and set(found[:, 0].tolist()) <= {*range(num_classes), 255}:
        return (
            "red, green and blue are equal, so it looks like class ids",
            "save one of the three channels, as gray",
        )
    known = np.asarray(colors, np.int32).reshape(-1, 3)
    if not len(known):
        return None
    if {*map(tuple, found[:, ::-1])} <= {*map(tuple, known)}:
        return (
            "with red and blue swapped all of them are",
            "swap red and blue; OpenCV reads and writes BGR",
        )
    if len(found) >= _LOSSY_COLORS + len(known) and _near(pixels, known):
        return LOSSY
    return None


def _mixed(values):
    """bool [H, W], strictly between left and right, or above and below."""
    mixed = np.zeros(values.shape, bool)
    v = values
    for inner, before, here, after in (
        (mixed[1:-1], v[:-2], v[1:-1], v[2:]),
        (mixed[:, 1:-1], v[:, :-2], v[:, 1:-1], v[:, 2:]),
    ):
        inner |= (before < here) & (here < after)
        inner |= (before > here) & (here > after)
    return mixed


def _many(mixed, share, values):
    """Whether this share of the pixels on edges is mixed.

    On an edge are those that differ from the one above or to the left.
    """
    number = np.count_nonzero(mixed)
    if number < _LEAST_MIXED:
        return False
    edges = np.zeros(values.shape, bool)
    edges[1:] |= values[1:] != values[:-1]
    edges[:, 1:] |= values[:, 1:] != values[:, :-1]
    return number >= share * np.count_nonzero(edges)


def _stretched(num_classes):
    return {round(255 * i / (num_classes - 1)) for i in range(num_classes)}


def _gray(color):
    """Brightness by ITU-R BT.601, as Pillow and OpenCV turn RGB to gray."""
    red, green, blue = color
    return round(0.299 * red + 0.587 * green + 0.114 * blue)


def _all_near(values, expected):
    """Whether values lie by expected ones, and that says something."""
    near = {value + shift for value in expected for shift in (-1, 0, 1)}
    return len(near) <= _MOST_NEAR and values <= near


def _near(pixels, known):
    """Whether nine of ten pixels have nearly a color of the palette."""
    pixels = pixels.reshape(-1, 3)
    pixels = pixels[:: -(-len(pixels) // _MOST_COMPARED)]
    distances = np.abs(pixels[:, None] - known[None]).max(-1).min(-1)
    return np.mean(distances <= _NEAR_COLOR) >= _NEAR_SHARE
