# SPDX-License-Identifier: Apache-2.0
"""SUN RGB-D: rooms, 37 classes, as the segmentation labels are distributed.

DIR/SUNRGBD-train_images/img-000001.jpg ... img-005285.jpg
DIR/SUNRGBD-test_images/img-000001.jpg ... img-005050.jpg
DIR/sunrgbd_train_test_labels/img-000001.png ... img-010335.png

The labels of the test images are 1 to 5050, those of the training images
5051 to 10335: training image k has the label 5050 + k. The id of an image is
the name of its label, as image names are there twice. Training images that
were renamed to the names of their labels are read too. In the masks 0 is
unlabeled, which is ignored, and 1 to 37 are the classes 0 to 36. The archives
hold no folders: unpack each into a folder of the name above.

There is no validation list: a share of the training images is held out, see
config.split.validation_fraction, and the test images are tested on.

Sources: layout and numbering, README.md of ankurhanda/sunrgbd-meta-data;
names, the metadata of Song et al. 2015 (seg37list). No colors are published:
those of PASCAL VOC's color map stand in.
"""

import os

from tfseg import mask_code
from tfseg.datasets import base
from tfseg.datasets.layout import files, published

CLASS_NAMES = (
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "blinds",
    "desk",
    "shelves",
    "curtain",
    "dresser",
    "pillow",
    "mirror",
    "floor_mat",
    "clothes",
    "ceiling",
    "books",
    "fridge",
    "tv",
    "paper",
    "towel",
    "shower_curtain",
    "box",
    "whiteboard",
    "person",
    "night_stand",
    "toilet",
    "sink",
    "lamp",
    "bathtub",
    "bag",
)
_NUM_TEST, _NUM_TRAIN = 5050, 5285
_TRAIN, _TEST = "SUNRGBD-train_images", "SUNRGBD-test_images"
_LABELS = "sunrgbd_train_test_labels"
_LAYOUT = (
    f"the folder with {_TRAIN}/img-*.jpg, {_TEST}/img-*.jpg and "
    f"{_LABELS}/img-*.png"
)


def build(*, dir):
    """SUN RGB-D.

    Args:
      dir: see the module.

    Returns:
      base.Dataset.

    Raises:
      ValueError: something is missing; names the path and the fix.
    """
    root = files.root(dir, _LABELS, layout=_LAYOUT)
    labels = _numbered(root, _LABELS, ".png")
    train = _train_images(root)
    test = _numbered(root, _TEST, ".jpg")
    parts = {
        "train": _part(train, labels, _NUM_TEST + 1, _NUM_TRAIN),
        "test": _part(test, labels, 1, _NUM_TEST),
    }
    palette = base.voc_palette(len(CLASS_NAMES) + 1)[1:]
    info = base.Info("sunrgbd", CLASS_NAMES, palette, ignore_color=(0, 0, 0))
    values = {label + 1: label for label in range(len(CLASS_NAMES))}
    code = mask_code.MaskCode(
        index_labels=mask_code.index_labels(values, ignored=(0,))
    )
    return published.dataset(root, info, code, parts)


def _train_images(root):
    """Number of the label -> image."""
    images = _numbered(root, _TRAIN, ".jpg")
    renamed = [number for number in images if number > _NUM_TRAIN]
    if not renamed:
        return {number + _NUM_TEST: path for number, path in images.items()}
    if min(images) <= _NUM_TEST:
        raise ValueError(
            f"{root}/{_TRAIN}: holds numbers below {_NUM_TEST + 1}, as "
            f"{min(images)}, and above {_NUM_TRAIN}, as {max(images)}: some "
            "images were renamed. Fix: unpack the archive again."
        )
    return images


def _part(images, labels, first, size):
    def by_id(paths):
        return {_id(number): path for number, path in paths.items()}

    numbers = range(first, first + size)
    ids = tuple(_id(number) for number in numbers)
    return published.Part(ids, by_id(images), by_id(labels), size)


def _numbered(root, folder, end):
    """Number -> path of the files img-NUMBER + end."""
    folder = os.path.join(root, folder)
    found = files.named(folder, "img-", end, layout=_LAYOUT)
    strange = [path for name, path in found.items() if not name.isdigit()]
    if strange:
        raise ValueError(
            f"{strange[0]}: not img-NUMBER{end}. Fix: remove or rename it."
        )
    return {int(name): path for name, path in found.items()}


def _id(number):
    return f"img-{number:06d}"
