# SPDX-License-Identifier: Apache-2.0
"""Cityscapes: streets of 50 cities, 19 classes.

DIR/leftImg8bit/{train,val,test}/CITY/ID_leftImg8bit.png
DIR/leftImg8bit/train_extra/CITY/ID_leftImg8bit.png       optional
DIR/gtFine/{train,val}/CITY/ID_gtFine_labelIds.png

Masks: the pipeline maps labelIds to the 19 train ids. labelTrainIds files,
which the authors' scripts write, go before them if every image with a
labelIds mask has one. Id 255, also what the id -1 of license plates becomes
in 8 bits, is ignored. gtFine/test holds dummies: test images have no labels.

`extra` adds the 19,998 coarsely labeled images to the training images, as
unlabeled ones; their gtCoarse masks are not read.

French et al. 2020 train and evaluate at half resolution, on a copy:

    python -m launch.prepare --dataset=cityscapes --source=CITYSCAPES \
        --dir=data/cityscapes_half

Images by the 2x2 mean, truncated; masks by the 2x2 majority of their ids, the
lowest of a tie. The copy has the same layout; config.dataset.dir names it.

Sources: cityscapesscripts/helpers/labels.py of the authors (ids, train ids,
names, colors); the numbers of images, Cordts et al. 2016, by city as in the
archives; French et al., convert_cityscapes.py.
"""

import os

import numpy as np
from absl import logging

from tfseg import id_lists, mask_code
from tfseg.datasets import base
from tfseg.datasets.layout import copies, files, published

# id, name, color of the train ids 0, 1, ...
_CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
_NUM_IDS = 34
# Images of each city.
CITIES = {
    "train": {
        "aachen": 174,
        "bochum": 96,
        "bremen": 316,
        "cologne": 154,
        "darmstadt": 85,
        "dusseldorf": 221,
        "erfurt": 109,
        "hamburg": 248,
        "hanover": 196,
        "jena": 119,
        "krefeld": 99,
        "monchengladbach": 94,
        "strasbourg": 365,
        "stuttgart": 196,
        "tubingen": 144,
        "ulm": 95,
        "weimar": 142,
        "zurich": 122,
    },
    "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
    "test": {
        "berlin": 544,
        "bielefeld": 181,
        "bonn": 46,
        "leverkusen": 58,
        "mainz": 298,
        "munich": 398,
    },
}
_NUM_EXTRA = 19998
_LAYOUT = (
    "the folder with leftImg8bit/{train,val,test}/ and gtFine/{train,val}/ "
    "of the official archives"
)
_IMAGE = "_leftImg8bit.png"
# Order: the first kind goes before the others where both are whole.
_MASKS = {
    "labelTrainIds": "_gtFine_labelTrainIds.png",
    "labelIds": "_gtFine_labelIds.png",
}


def build(*, dir, extra=False):
    """Cityscapes.

    Args:
      dir: see the module.
      extra: add the coarsely labeled images as unlabeled ones.

    Returns:
      base.Dataset.

    Raises:
      ValueError: something is missing; names the path and the fix.
    """
    root = files.root(dir, "leftImg8bit", layout=_LAYOUT)
    fine = {part: _fine(root, part) for part in ("train", "val")}
    kind = _mask_kind(fine, list(_MASKS))
    parts = {
        name: _part(part, *_kind_of(fine[part], kind))
        for name, part in (("train", "train"), ("validation", "val"))
    }
    if extra:
        images = _images(root, "train_extra")
        parts["extra"] = published.Part(tuple(images), images, None, _NUM_EXTRA)
    parts["test"] = _part("test", _images(root, "test", optional=True), None)
    info = base.Info(
        "cityscapes",
        tuple(name for _, name, _ in _CLASSES),
        tuple(color for *_, color in _CLASSES),
        ignore_color=(0, 0, 0),
    )
    return published.dataset(root, info, _code(kind), parts)


def prepare(*, dir, source):
    """Writes the copy at half resolution.

    Args:
      dir: folder to write.
      source: folder of Cityscapes.

    Raises:
      ValueError: something is missing, or unreadable files.
    """
    root = files.root(
        source, "leftImg8bit", layout=_LAYOUT, option="`--source`"
    )
    fine = {part: _fine(root, part) for part in ("train", "val")}
    # The majority is that of the ids, before they are mapped.
    kind = _mask_kind(fine, list(reversed(_MASKS)))
    paths = []
    for part in fine:
        images, labels = _kind_of(fine[part], kind)
        paths += [*images.values(), *labels.values()]
    for part in ("train_extra", "test"):
        paths += _images(root, part, optional=True).values()
    settings = {"dataset": "cityscapes", "size": "half", "version": 1}
    copies.begin(dir, settings)
    jobs = {os.path.join(dir, os.path.relpath(p, root)): p for p in paths}
    copies.write_all(jobs, _halved, "images and masks")
    copies.finish(dir, settings)


def _part(name, images, labels):
    ids = tuple(sorted({*images, *(labels or {})}))
    cities = CITIES[name]
    found = dict.fromkeys(cities, 0)
    for key in images:
        city = key.split("_")[0]
        found[city] = found.get(city, 0) + 1
    notes = [
        f"{city} {number} of {cities.get(city, 0)}"
        for city, number in found.items()
        if number != cities.get(city, 0)
    ]
    notes = [f"cities: {id_lists.shorten(notes)}"] if notes else []
    size = sum(cities.values())
    optional = name == "test"
    return published.Part(ids, images, labels, size, tuple(notes), optional)


def _images(root, part, optional=False):
    """id -> image of one part."""
    folder = os.path.join(root, "leftImg8bit", part)
    if optional and not os.path.isdir(folder):
        return {}
    return _by_id(folder, {"image": _IMAGE})["image"]


def _fine(root, part):
    """(id -> image, kind of mask -> id -> mask) of one part."""
    masks = _by_id(os.path.join(root, "gtFine", part), _MASKS)
    return _images(root, part), masks


def _by_id(folder, ends):
    """kind -> id -> path of the files FOLDER/CITY/ID + end of the kind."""
    if not os.path.isdir(folder):
        raise files.missing(folder, _LAYOUT)
    with os.scandir(folder) as entries:
        cities = sorted(entry.path for entry in entries if entry.is_dir())
    found = {kind: {} for kind in ends}
    for city in cities:
        for name in sorted(os.listdir(city)):
            for kind, end in ends.items():
                if name.endswith(end) and not name.startswith("."):
                    found[kind][name[: -len(end)]] = os.path.join(city, name)
    if not any(found.values()):
        wanted = " or ".join(f"CITY/*{end}" for end in ends.values())
        raise files.missing(os.path.join(folder, wanted), _LAYOUT)
    return found


def _mask_kind(fine, kinds):
    """The kind of which there are most masks, the first one of a tie."""
    counts = {
        kind: sum(len(masks[kind]) for _, masks in fine.values())
        for kind in kinds
    }
    best = max(kinds, key=counts.get)
    for kind in kinds:
        if 0 < counts[kind] < counts[best]:
            logging.warning(
                "of the %d masks only %d are there as %s too: these are not "
                "read",
                counts[best],
                counts[kind],
                kind,
            )
    return best


def _kind_of(part, kind):
    images, masks = part
    return images, masks[kind]


def _code(kind):
    if kind == "labelTrainIds":
        labels = {label: label for label in range(len(_CLASSES))}
        return mask_code.MaskCode(index_labels=mask_code.index_labels(labels))
    labels = {value: label for label, (value, *_) in enumerate(_CLASSES)}
    ignored = set(range(_NUM_IDS)) - labels.keys()
    return mask_code.MaskCode(
        index_labels=mask_code.index_labels(labels, ignored)
    )


def _halved(path):
    """Bytes of an image or a mask at half its size."""
    image = copies.read_image(path)
    pixels = np.asarray(image)
    if pixels.shape[0] % 2 or pixels.shape[1] % 2:
        raise ValueError(f"{path}: {image.size} pixels cannot be halved")
    if path.endswith(_IMAGE):
        return copies.png(_mean(pixels))
    if image.mode not in ("L", "P"):
        raise ValueError(f"{path}: {image.mode} pixels are not ids")
    return copies.png(_majority(pixels))


def _blocks(pixels):
    """The four pixels of each 2x2 block along a new first axis."""
    return np.stack([pixels[y::2, x::2] for y in (0, 1) for x in (0, 1)])


def _mean(pixels):
    total = _blocks(pixels).astype(np.uint16).sum(0)
    return (total // 4).astype(np.uint8)


def _majority(ids):
    """Sorted, two equal ids stand side by side, the lowest of a tie first."""
    first, second, third, fourth = np.sort(_blocks(ids), axis=0)
    rest = np.where(third == fourth, third, first)
    rest = np.where(second == third, second, rest)
    return np.where(first == second, first, rest)
