# SPDX-License-Identifier: Apache-2.0
"""Finds the number of classes from the masks, where no file names them."""

import multiprocessing.pool
import os

from absl import logging
from PIL import Image

_IGNORE_LABEL = 255


def class_names(paths):
    """class_0, class_1, ... up to the highest id in the masks.

    Args:
      paths: PNG masks of gray or palette index; 255 = ignored.

    Returns:
      tuple of names.

    Raises:
      ValueError: a mask that does not hold ids, or none but 255.
    """
    logging.info("reading %d masks to count the classes ...", len(paths))
    with multiprocessing.pool.ThreadPool(os.cpu_count()) as pool:
        highest = max(pool.imap_unordered(_highest_id, paths, chunksize=16))
    if highest < 0:
        raise ValueError(
            f"{os.path.dirname(paths[0])}: the masks hold nothing but 255 "
            "(ignored). Fix: save class ids 0, 1, 2, ... in the masks."
        )
    return tuple(f"class_{label}" for label in range(highest + 1))


def _highest_id(path):
    """Highest id of a mask but 255; -1 if there is none."""
    return max(values(path) - {_IGNORE_LABEL}, default=-1)


def values(path):
    """Set of the values in a PNG mask of gray or palette index.

    Raises:
      ValueError: unreadable, or a mask of another kind.
    """
    try:
        with Image.open(path) as image:
            if image.format != "PNG":
                raise ValueError(
                    f"{path}: is a {image.format} file. Fix: save the "
                    "original mask as PNG."
                )
            if image.mode not in ("1", "L", "P"):
                raise ValueError(
                    f"{path}: {image.mode} pixels are not class ids. Fix: "
                    "save an index PNG, or give each class a color in "
                    "classes.txt."
                )
            counts = image.histogram()
            scale = 1 if image.mode == "P" else _gray_scale(path)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: cannot be read as a PNG: {error}. Fix: save it again."
        ) from None
    return {value // scale for value, count in enumerate(counts) if count}


def _gray_scale(path):
    """Pillow stretches gray of 1, 2 and 4 bits to 0..255: by this factor."""
    with open(path, "rb") as file:
        bits = file.read(25)[24]
    return 255 // (2**bits - 1)
