# SPDX-License-Identifier: Apache-2.0
"""Any data set of TensorFlow Datasets with an image and a mask per example.

`launch.prepare` exports the builder, which must be prepared on disk already
(`tfds build NAME`; nothing is downloaded here), to a `folder` data set:

    python -m launch.prepare --dataset=tfds:oxford_iiit_pet \
        --source=TFDS_DATA_DIR --dir=data/pets
    python -m launch.train --config=configs/folder_supervised.py:dir=data/pets \
        --config.dataset.name=tfds --workdir=runs/pets

Features: `image` and `segmentation_mask`, the latter PNG of 8 bits and one
channel; their bytes are copied as they are. Ids are SPLIT_NUMBER in the order
of the builder. The splits train, validation (or val) and test become lists;
the images of others belong to no list. Classes are those that the mask
feature names, or else the values in the masks but 255, named class_VALUE.
"""

import dataclasses
import json
import multiprocessing.pool
import os

import numpy as np
import tqdm

from tfseg import id_lists
from tfseg.datasets import folder
from tfseg.datasets.classes import mask_scan
from tfseg.datasets.layout import copies

_IMAGE, _MASK = "image", "segmentation_mask"
# Split of the builder -> list of the folder.
_LISTS = {
    "train": "train",
    "validation": "val",
    "val": "val",
    "test": "test",
}
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png"}
_IGNORE_LABEL = 255


def build(*, dir, builder=""):
    """The data set that `prepare` has written.

    Args:
      dir: its folder.
      builder: name of the builder that it must come from; "" = any.

    Returns:
      base.Dataset.

    Raises:
      ValueError: it is not there, not complete, or of another builder; says
        the command that writes it.
    """
    command = (
        f"python -m launch.prepare --dataset=tfds:{builder or 'NAME'} "
        f"--dir={dir or 'data/NAME'}"
    )
    settings = copies.check_complete(dir, command) if dir else None
    if not settings or "builder" not in settings:
        raise ValueError(
            f"{dir or '(empty)'}: `config.dataset.dir` does not hold an "
            f"export of TensorFlow Datasets. Fix: {command}"
        )
    if builder and builder != settings["builder"]:
        raise ValueError(
            f"{dir}: holds {settings['builder']}, `config.dataset.builder` "
            f"is {builder}. Fix: correct it, or {command}"
        )
    dataset = folder.build(dir=dir)
    name = f"tfds:{settings['builder']}"
    info = dataclasses.replace(dataset.info, name=name)
    return dataclasses.replace(dataset, info=info)


def prepare(*, dir, builder, source=""):
    """Exports a builder.

    Args:
      dir: folder to write.
      builder: its name, with a configuration and a version if wanted.
      source: the data_dir of TensorFlow Datasets; "" = its default.

    Raises:
      ValueError: no such builder, it is not prepared, or its features do not
        fit.
    """
    made = _open(builder, source)
    _check_features(made)
    settings = {"builder": builder, "version": str(made.version)}
    copies.begin(dir, settings)
    for split in made.info.splits:
        _export(made, split, dir)
    for split in made.info.splits:
        if split in _LISTS:
            path = os.path.join(dir, "splits", f"{_LISTS[split]}.txt")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            copies.write_lines(path, _ids(made, split))
    classes = json.dumps(_classes(made, dir), indent=2)
    copies.write_lines(os.path.join(dir, "classes.json"), [classes])
    copies.finish(dir, settings)


def _open(name, source):
    if not name:
        raise ValueError(
            "`--dataset=tfds` names no builder. Fix: --dataset=tfds:NAME, as "
            "--dataset=tfds:oxford_iiit_pet."
        )
    # Late: it takes seconds, and training from the export does without.
    import tensorflow_datasets as tfds

    try:
        made = tfds.builder(name, data_dir=source or None)
    except (tfds.core.DatasetNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"TensorFlow Datasets has no builder {name!r} "
            f"{f'in {source}' if source else ''}: {error}. Fix: correct the "
            "name, or name its data_dir as --source."
        ) from None
    if not os.path.exists(os.path.join(made.data_dir, "dataset_info.json")):
        raise ValueError(
            f"{made.data_dir}: {name} is not prepared there. Fix: tfds build "
            f"{name}, or name its data_dir as --source."
        )
    return made


def _check_features(made):
    features = made.info.features
    lacking = [key for key in (_IMAGE, _MASK) if key not in features]
    if lacking:
        raise ValueError(
            f"{made.name} has no feature {' and no '.join(lacking)}; it has "
            f"{', '.join(features)}. Fix: only builders with {_IMAGE} and "
            f"{_MASK} can be exported."
        )
    mask = features[_MASK]
    if not _is_index_image(mask):
        raise ValueError(
            f"{made.name}: {_MASK} is {mask}, not uint8 with one channel. "
            "Fix: only such masks can be exported."
        )


def _is_index_image(feature):
    import tensorflow_datasets as tfds

    return (
        isinstance(feature, tfds.features.Image)
        and feature.shape[-1] == 1
        and feature.np_dtype == np.uint8
    )


def _ids(made, split):
    number = made.info.splits[split].num_examples
    return [f"{split}_{i:06d}" for i in range(number)]


def _export(made, split, dir):
    """Writes the examples of a split that are not there yet."""
    import tensorflow_datasets as tfds

    folders = [os.path.join(dir, name) for name in ("images", "labels")]
    for path in folders:
        os.makedirs(path, exist_ok=True)
    # An image is written after its mask.
    there = {os.path.splitext(name)[0] for name in os.listdir(folders[0])}
    ids = _ids(made, split)
    if there.issuperset(ids):
        return
    skip = tfds.decode.SkipDecoding()
    examples = made.as_dataset(
        split=split,
        decoders={_IMAGE: skip, _MASK: skip},
        shuffle_files=False,
        # One file after the other, so that the order is always the same.
        read_config=tfds.ReadConfig(interleave_cycle_length=1),
    )
    bar = tqdm.tqdm(examples, desc=split, total=len(ids), disable=None)
    for example, name in zip(bar, ids):
        if name not in there:
            image, mask = example[_IMAGE].numpy(), example[_MASK].numpy()
            _write(folders, name, image, mask)


def _write(folders, name, image, mask):
    for part, contents in (("image", image), ("mask", mask)):
        suffix = _SUFFIXES.get(contents[:2])
        if suffix is None or (part == "mask" and suffix != ".png"):
            raise ValueError(
                f"{name}: the {part} begins with {contents[:4]!r}. Fix: only "
                "JPEG and PNG images and PNG masks can be exported."
            )
    images, labels = folders
    copies.write_bytes(os.path.join(labels, f"{name}.png"), mask)
    suffix = _SUFFIXES[image[:2]]
    copies.write_bytes(os.path.join(images, f"{name}{suffix}"), image)


def _classes(made, dir):
    """What classes.json says: {value: name}."""
    names = getattr(made.info.features[_MASK], "names", None)
    if names:
        return dict(enumerate(names))
    labels = os.path.join(dir, "labels")
    paths = [os.path.join(labels, name) for name in sorted(os.listdir(labels))]
    paths = [path for path in paths if path.endswith(".png")]
    with multiprocessing.pool.ThreadPool(os.cpu_count() or 1) as pool:
        found = pool.imap_unordered(mask_scan.values, paths, 16)
        bar = tqdm.tqdm(
            found, desc="values in the masks", total=len(paths), disable=None
        )
        values = sorted(set().union(*bar) - {_IGNORE_LABEL})
    if not values:
        raise ValueError(
            f"{labels}: the masks of {made.name} hold nothing but 255: "
            f"{id_lists.shorten(paths)}."
        )
    return {value: f"class_{value}" for value in values}
