# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012: 20 kinds of objects and the background.

DIR/JPEGImages/ID.jpg
DIR/SegmentationClass/ID.png             masks of VOC: palette PNG, 255 = void
DIR/ImageSets/Segmentation/{train,val}.txt
DIR/SegmentationClassAug/ID.png          masks of the augmented list
DIR/Annotations/ID.xml                   objects in the image

DIR is the folder VOC2012 of the official archive, or one above it. Training
lists: "standard", VOC's 1,464 images, and "augmented", the 10,582 images of
VOC train and of the Semantic Boundaries Dataset (SBD) without VOC val. The
masks of the latter come ready in a SegmentationClassAug folder, which is
used as it is, or from the .mat files of SBD:

    python -m launch.prepare --dataset=voc --dir=VOCdevkit/VOC2012 \
        --source=benchmark_RELEASE

Where both have a mask, VOC's is taken; those of SBD have no void. Validation
is VOC's val, 1,449 images, with VOC's masks. The test images have no public
labels and are left out.

Sources: names, order and colors, VOCinit.m and VOClabelcolormap.m in
VOCdevkit/VOCcode (Everingham et al. 2012); SBD, Hariharan et al. 2011; the
numbers of images, Chen et al. 2018 (DeepLab) and Chen et al. 2021 (CPS).
"""

import multiprocessing.pool
import os
from xml.etree import ElementTree

from tfseg import id_lists
from tfseg.datasets import base
from tfseg.datasets.layout import copies, files, published, sbd

CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_SIZES = {"standard": 1464, "augmented": 10582}
_NUM_VALIDATION = 1449
_LAYOUT = (
    "the folder VOC2012 with JPEGImages/, SegmentationClass/ and "
    "ImageSets/Segmentation/{train,val}.txt"
)
_INSIDE = ("VOC2012", os.path.join("VOCdevkit", "VOC2012"))
# Where the augmented list stands if there is one: Hung et al., DrSleep, ...
_AUGMENTED_LISTS = (
    "SegmentationAug/train_aug.txt",
    "Segmentation/train_aug.txt",
    "Segmentation/trainaug.txt",
)
_COMMAND = (
    "python -m launch.prepare --dataset=voc --dir={} "
    "--source=PATH/benchmark_RELEASE"
)


def build(*, dir, train="augmented", extra=False, image_labels=False):
    """PASCAL VOC 2012.

    Args:
      dir: see the module.
      train: "augmented" or "standard", the training list.
      extra: add the images that are on no list as unlabeled ones. Those of
        VOC's test list, where it is there, stay out.
      image_labels: read Annotations/ and give each training image the
        classes of its objects, difficult ones too, as CCT does
        (make_cls_labels.py); None where there is no file.

    Returns:
      base.Dataset.

    Raises:
      ValueError: something is missing; names the path and the fix.
    """
    if train not in _SIZES:
        raise ValueError(
            "`config.dataset.train` must be one of "
            f"{', '.join(_SIZES)}. Received: {train!r}."
        )
    root = files.root(dir, "JPEGImages", layout=_LAYOUT, inside=_INSIDE)
    images = _named(root, "JPEGImages", ".jpg")
    masks = _named(root, "SegmentationClass", ".png")
    standard, validation = _lists(root)
    parts = {
        "train": published.Part(standard, images, masks, _SIZES["standard"]),
        "validation": published.Part(
            validation, images, masks, _NUM_VALIDATION
        ),
    }
    if train == "augmented":
        parts["train"] = _augmented(root, images, masks, standard, validation)
    if extra:
        others = _others(root, images, parts)
        parts["extra"] = published.Part(others, images, None, len(others))
    palette = base.voc_palette(len(CLASS_NAMES))
    info = base.Info("voc", CLASS_NAMES, palette)
    classes = None
    if image_labels:
        classes = _image_labels(root, parts["train"].ids)
    return published.dataset(root, info, info.mask_code(), parts, classes)


def prepare(*, dir, source):
    """Writes SegmentationClassAug/ from the .mat files of SBD.

    Args:
      dir: folder VOC2012.
      source: folder benchmark_RELEASE of SBD.

    Raises:
      ValueError: something is missing, or unreadable files.
    """
    root = files.root(
        dir, "JPEGImages", layout=_LAYOUT, inside=_INSIDE, option="`--dir`"
    )
    masks = _named(root, "SegmentationClass", ".png")
    boundaries = sbd.mat_files(source)
    ids = [name for part in _lists(root) for name in part]
    gone = [name for name in ids if name not in masks]
    if gone:
        raise ValueError(
            f"{root}/SegmentationClass: {len(gone):,} of VOC's own masks, "
            "which go before those of SBD, are not there: "
            f"{id_lists.shorten(gone)}. Fix: unpack VOC whole."
        )
    own = {name: masks[name] for name in ids}
    out = os.path.join(root, "SegmentationClassAug")
    settings = {"dataset": "voc", "masks": "SBD", "version": 1}
    copies.begin(out, settings)
    chosen = {**boundaries, **own}
    jobs = {
        os.path.join(out, f"{name}.png"): path
        for name, path in sorted(chosen.items())
    }
    copies.write_all(jobs, _converted, "masks")
    copies.finish(out, settings)


def _converted(path):
    if path.endswith(".mat"):
        label = sbd.read(path, num_classes=len(CLASS_NAMES))
        return copies.png(label, base.voc_palette(256))
    with open(path, "rb") as file:
        return file.read()


def _named(root, folder, end):
    return files.named(os.path.join(root, folder), "", end, layout=_LAYOUT)


def _lists(root):
    """Ids of VOC's own train and val."""
    folder = os.path.join(root, "ImageSets", "Segmentation")
    paths = [os.path.join(folder, f"{name}.txt") for name in ("train", "val")]
    return [files.read_list(path, layout=_LAYOUT) for path in paths]


def _others(root, images, parts):
    """Ids of images that neither train, validate nor test."""
    listed = {name for part in parts.values() for name in part.ids}
    path = os.path.join(root, "ImageSets", "Segmentation", "test.txt")
    if os.path.exists(path):
        listed.update(files.read_list(path, layout=_LAYOUT))
    return tuple(sorted(images.keys() - listed))


def _augmented(root, images, masks, standard, validation):
    """The published.Part of the augmented list."""
    folder = os.path.join(root, "SegmentationClassAug")
    command = _COMMAND.format(root)
    if not os.path.isdir(folder):
        raise ValueError(
            f"{folder}: no such folder. Fix: put the ready one there, or make "
            f"it from SBD: {command}; or set config.dataset.train=standard."
        )
    copies.check_complete(folder, command)
    ready = _named(root, "SegmentationClassAug", ".png")
    ids = _augmented_ids(root, standard, validation, ready)
    notes = (f"{len(ready):,} masks in SegmentationClassAug",)
    masks = {**masks, **ready}
    return published.Part(ids, images, masks, _SIZES["augmented"], notes)


def _augmented_ids(root, standard, validation, masks):
    """Those of a list that is there, else by the rule, sorted."""
    for name in _AUGMENTED_LISTS:
        path = os.path.join(root, "ImageSets", name)
        if os.path.exists(path):
            ids = files.read_list(path, layout=_LAYOUT)
            id_lists.check_disjoint({path: ids, "VOC val": validation})
            return ids
    return tuple(sorted({*masks, *standard} - set(validation)))


def _image_labels(root, ids):
    """id -> sorted labels of its objects; not there without a file."""
    folder = os.path.join(root, "Annotations")
    there = files.named(folder, "", ".xml", layout=f"{_LAYOUT}, Annotations/")
    paths = {name: there[name] for name in ids if name in there}
    with multiprocessing.pool.ThreadPool(os.cpu_count() or 1) as pool:
        labels = pool.map(_objects, paths.values())
    return {name: found for name, found in zip(paths, labels) if found}


def _objects(path):
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise ValueError(
            f"{path}: malformed XML: {error}. Fix: get the file again."
        ) from None
    # Names of parts, a person's head, stand deeper and do not count.
    names = {found.findtext("name", "") for found in tree.iter("object")}
    strange = sorted(names - set(CLASS_NAMES[1:]))
    if strange:
        raise ValueError(
            f"{path}: objects that VOC does not have: "
            f"{id_lists.shorten(strange)}. Fix: get the file again."
        )
    return tuple(sorted(CLASS_NAMES.index(name) for name in names))
