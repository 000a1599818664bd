# SPDX-License-Identifier: Apache-2.0
"""ISIC 2017, part 1: lesions of the skin, two classes.

DIR/ISIC-2017_Training_Data/ID.jpg
DIR/ISIC-2017_Training_Part1_GroundTruth/ID_segmentation.png
    the same with Validation; with Test_v2 optional

Masks are gray: 0 is skin, 255 the lesion (and so not "ignored"). The files
ID_superpixels.png among the images are not read.

French et al. 2020 train on 248 x 248 pixels, whatever the shape:

    python -m launch.prepare --dataset=isic --source=ISIC --dir=data/isic_248

Images and masks by averaging over areas, rounded to whole values, halves to
even; a mask of 127 or more is the lesion. The copy has the same layout, its
images as PNG; config.dataset.dir names it. Computed in whole numbers, so the
bytes are the same everywhere; OpenCV's INTER_AREA, which the authors used,
adds in float32 and may differ by 1 where the mean is just between two values.

Sources: Codella et al. 2017 (challenge, 2,000, 150 and 600 images); French et
al., supplement D.4.2, convert_isic.py and datapipe/isic2017_dataset.py.
"""

import os

import numpy as np

from tfseg import mask_code
from tfseg.datasets import base
from tfseg.datasets.layout import copies, files, published

_SIDE = 248
_THRESHOLD = 127
_LESION = 255
# Part -> name in the folders, number of images.
_PARTS = {
    "train": ("Training", 2000),
    "validation": ("Validation", 150),
    "test": ("Test_v2", 600),
}
_IMAGES, _MASKS = "ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth"
_MASK_END = "_segmentation.png"
_SUPERPIXELS = "_superpixels"
_LAYOUT = (
    "the folder with ISIC-2017_Training_Data/, ISIC-2017_Training_Part1_"
    "GroundTruth/, the same two of Validation and, optional, of Test_v2"
)


def build(*, dir):
    """ISIC 2017.

    Args:
      dir: see the module.

    Returns:
      base.Dataset.

    Raises:
      ValueError: something is missing; names the path and the fix.
    """
    parts = _find(dir, "`config.dataset.dir`")
    info = base.Info(
        "isic",
        ("background", "lesion"),
        ((0, 0, 0), (255, 255, 255)),
    )
    code = mask_code.MaskCode(
        index_labels=mask_code.index_labels({0: 0, _LESION: 1})
    )
    return published.dataset(dir, info, code, parts)


def prepare(*, dir, source):
    """Writes the copy of 248 x 248 pixels.

    Args:
      dir: folder to write.
      source: folder of ISIC 2017.

    Raises:
      ValueError: something is missing, or unreadable files.
    """
    parts = _find(source, "`--source`")
    settings = {"dataset": "isic", "side": _SIDE, "version": 1}
    copies.begin(dir, settings)
    jobs = {}
    for part in parts.values():
        for path in [*part.images.values(), *part.labels.values()]:
            inner = os.path.splitext(os.path.relpath(path, source))[0]
            jobs[os.path.join(dir, f"{inner}.png")] = path
    copies.write_all(jobs, _scaled, "images and masks")
    copies.finish(dir, settings)


def _find(dir, option):
    first = _IMAGES.format("Training")
    root = files.root(dir, first, layout=_LAYOUT, option=option)
    return {name: _part(root, name) for name in _PARTS}


def _part(root, name):
    word, size = _PARTS[name]
    folder = os.path.join(root, _IMAGES.format(word))
    optional = name == "test"
    if optional and not os.path.isdir(folder):
        return published.Part((), {}, {}, size, optional=True)
    images = files.named(folder, "", (".jpg", ".png"), layout=_LAYOUT)
    images = {
        key: path
        for key, path in images.items()
        if not key.endswith(_SUPERPIXELS)
    }
    masks = os.path.join(root, _MASKS.format(word))
    labels = files.named(masks, "", _MASK_END, layout=_LAYOUT)
    ids = tuple(sorted({*images, *labels}))
    return published.Part(ids, images, labels, size, optional=optional)


def _scaled(path):
    """Bytes of an image or a mask at 248 x 248 pixels."""
    is_mask = path.endswith(_MASK_END)
    pixels = np.asarray(copies.read_image(path, "L" if is_mask else "RGB"))
    pixels = area_mean(pixels, _SIDE)
    if is_mask:
        pixels = np.where(pixels >= _THRESHOLD, _LESION, 0).astype(np.uint8)
    return copies.png(pixels)


def area_mean(pixels, side):
    """Scales an image by averaging over areas.

    Args:
      pixels: uint8 [H, W] or [H, W, 3].
      side: height and width of the result.

    Returns:
      uint8 [side, side] or [side, side, 3]: means of the areas, in which a
      pixel counts by its share, rounded, halves to even.
    """
    height, width = pixels.shape[:2]
    # Both sums hold whole numbers below 2^53, which float64 holds exactly.
    sums = _area_sums(pixels, side)
    sums = _area_sums(sums.swapaxes(0, 1), side).swapaxes(0, 1)
    return np.rint(sums / (height * width)).astype(np.uint8)


def _area_sums(values, side):
    """Sums over `side` equal areas of the first axis, a pixel being `side`."""
    size = len(values)
    rows = []
    for start in range(0, side * size, size):
        first, last = start // side, -(-(start + size) // side)
        edges = np.arange(first, last + 1) * side
        shares = np.diff(edges.clip(start, start + size)).astype(np.float64)
        rows.append(np.tensordot(shares, values[first:last], 1))
    return np.stack(rows)
