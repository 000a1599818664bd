# SPDX-License-Identifier: Apache-2.0
"""A folder of images, of which some have masks.

DIR/images/      JPEG or PNG, also in folders below; the id of an image is
                 its path below images/ without suffix
DIR/labels/      PNG with the same id: gray or palette index, or colors
                 of classes.txt; 255 = ignored. None = unlabeled image
DIR/classes.txt  optional: one class a line, `name` or `name r g b`
DIR/classes.json instead: names, mask values with gaps, colors, ignored
                 values; as for COCO-Stuff, see classes/class_json.py
DIR/image_labels.txt
                 optional: which classes images show, an image a line,
                 `ID<TAB>class, class`; read with `image_labels`
DIR/splits/      optional: train.txt, val.txt, test.txt, labeled.txt,
                 unlabeled.txt, one id a line
"""

import os

from absl import logging

from tfseg import id_lists
from tfseg.datasets import base
from tfseg.datasets.classes import class_file, class_json
from tfseg.datasets.classes import image_labels as image_label_file
from tfseg.datasets.classes import mask_scan

_LABEL_SUFFIXES = (".png",)
# File name -> name of the partition.
_SPLIT_FILES = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "labeled": "labeled",
    "unlabeled": "unlabeled",
}
_LAYOUT = (
    "images/*.jpg|png, labels/*.png, optional classes.txt or classes.json "
    "and splits/"
)


def build(*, dir, image_labels=False):
    """The data set in a folder.

    Args:
      dir: see the module.
      image_labels: read image_labels.txt, for weak labels.

    Returns:
      base.Dataset.

    Raises:
      ValueError: something is missing, ambiguous or malformed; names the
        file and the fix.
    """
    _check_folder(dir)
    images = _find_images(os.path.join(dir, "images"))
    labels = _find_labels(os.path.join(dir, "labels"), images)
    info, code = _read_classes(dir, [labels[name] for name in sorted(labels)])
    classes = {}
    if image_labels:
        path = os.path.join(dir, "image_labels.txt")
        classes = image_label_file.read(path, images, info.class_names)
    records = {
        name: base.Record(
            name, images[name], labels.get(name), classes.get(name)
        )
        for name in sorted(images)
    }
    partitions = _read_partitions(os.path.join(dir, "splits"), records)
    return base.Dataset(info, records, partitions, code)


def _check_folder(dir):
    if not dir:
        raise ValueError(
            "`config.dataset.dir` is empty. Fix: name the folder of the data "
            f"set; it holds {_LAYOUT}."
        )
    for path in (dir, os.path.join(dir, "images")):
        if not os.path.isdir(path):
            raise ValueError(
                f"{path}: no such folder. Fix: `config.dataset.dir` must "
                f"name a folder that holds {_LAYOUT}."
            )


def _find_images(folder):
    images = {}
    for name, path in _walk(folder, id_lists.IMAGE_SUFFIXES):
        if name in images:
            raise ValueError(
                f"{images[name]} and {path}: two images with the id {name!r}."
                " Fix: rename or remove one of the two."
            )
        images[name] = path
    if not images:
        raise ValueError(
            f"{folder}: no images. Fix: put files with the suffix "
            f"{', '.join(id_lists.IMAGE_SUFFIXES)} there."
        )
    return images


def _find_labels(folder, images):
    if not os.path.isdir(folder):
        raise ValueError(
            f"{folder}: no such folder, so there are no labels. Fix: put a "
            "PNG mask there for each labeled image, with the image's id."
        )
    labels = {}
    for name, path in _walk(folder, id_lists.IMAGE_SUFFIXES):
        if not path.lower().endswith(_LABEL_SUFFIXES):
            raise ValueError(
                f"{path}: a mask must be a PNG; JPEG is lossy and changes "
                "labels at borders. Fix: save the original mask as PNG."
            )
        if name in labels:
            raise ValueError(
                f"{labels[name]} and {path}: two masks with the id {name!r}. "
                "Fix: rename or remove one of the two."
            )
        labels[name] = path
    if not labels:
        raise ValueError(
            f"{folder}: no labels. Fix: put a PNG mask there for each "
            "labeled image, with the image's id."
        )
    strangers = sorted(labels.keys() - images.keys())
    if strangers:
        paths = id_lists.shorten([labels[name] for name in strangers])
        raise ValueError(
            f"{len(strangers)} labels have no image: {paths}. Fix: give a "
            "mask the name of its image, or remove it."
        )
    return labels


def _check_name(path):
    """An id goes into lists and JSON: text of one line."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{path!r}: the file name is not UTF-8. Fix: rename the file."
        ) from None
    if "\n" in path or "\r" in path:
        raise ValueError(
            f"{path!r}: the file name holds a line break. Fix: rename the "
            "file."
        )


def _walk(folder, suffixes):
    """Yields (id, path) of files with one of the suffixes, hidden ones not.

    Reads folders alone, never a file's status: 100,000 files take a second.
    """
    ignored = []
    # (folder, start of the ids in it, real paths of the folders above)
    pending = [(folder, "", frozenset())]
    while pending:
        here, prefix, above = pending.pop()
        real = os.path.realpath(here)
        if real in above:  # A symbolic link to a folder above.
            continue
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                stem, suffix = os.path.splitext(entry.name)
                if entry.is_dir():
                    inner = f"{prefix}{entry.name}/"
                    pending.append((entry.path, inner, above | {real}))
                elif suffix.lower() in suffixes:
                    _check_name(entry.path)
                    yield prefix + stem, entry.path
                else:
                    ignored.append(entry.path)
    if ignored:
        logging.warning(
            "%s: ignoring %d files that are neither JPEG nor PNG: %s",
            folder,
            len(ignored),
            id_lists.shorten(sorted(ignored)),
        )


def _read_partitions(folder, records):
    if not os.path.isdir(folder):
        return {}
    partitions, sources = {}, {}
    for file in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(file)
        path = os.path.join(folder, file)
        if suffix != ".txt" or stem not in _SPLIT_FILES:
            logging.info(
                "%s is not read: not one of %s",
                path,
                ", ".join(f"{name}.txt" for name in _SPLIT_FILES),
            )
            continue
        name = _SPLIT_FILES[stem]
        if name in sources:
            raise ValueError(
                f"{sources[name]} and {path} are the same list. Fix: keep "
                "one of the two."
            )
        sources[name] = path
        partitions[name] = id_lists.read_ids(path, records)
        if not partitions[name] and name != "unlabeled":
            raise ValueError(
                f"{path}: lists no id. Fix: list ids, or remove the file."
            )
    id_lists.check_disjoint(
        {
            sources[name]: partitions[name]
            for name in ("train", "validation", "test")
            if name in partitions
        }
    )
    return partitions


def _read_classes(dir, label_paths):
    """(base.Info, mask_code.MaskCode)."""
    path = os.path.join(dir, "classes.txt")
    json_path = os.path.join(dir, "classes.json")
    if os.path.exists(json_path):
        if os.path.exists(path):
            raise ValueError(
                f"{path} and {json_path} both list the classes. Fix: keep "
                "one of the two."
            )
        names, palette, code = class_json.read(json_path)
        info = _info(names, palette)
        return info, code(info)
    if os.path.exists(path):
        info = _info(*class_file.read(path))
        return info, info.mask_code()
    names = mask_scan.class_names(label_paths)
    logging.warning(
        "%s is not there: found %d classes in the masks, named class_0 "
        "to class_%d",
        path,
        len(names),
        len(names) - 1,
    )
    info = _info(names, None)
    return info, info.mask_code()


def _info(names, palette):
    palette = palette or base.voc_palette(len(names))
    ignore_color = base.Info.ignore_color
    if ignore_color in palette:
        ignore_color = None
    return base.Info("folder", names, palette, ignore_color)
