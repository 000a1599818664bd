# SPDX-License-Identifier: Apache-2.0
"""Labels that a trained network gives to images, on disk.

FOLDER/labels/ID.png        class of each pixel, in colors; 255 = no label
FOLDER/confidences/ID.png   how sure it is of each, times 255
FOLDER/pseudo_labels.json   when all are there: what made them
"""

import os

import numpy as np
import tensorflow as tf
import tqdm

from tfseg import examples, id_lists, mask_code, predict, runs
from tfseg.data import check as data_check
from tfseg.data import decode, pipeline

_COMPLETE = "pseudo_labels.json"


def is_complete(folder):
    """Whether `describe` has ended the work on a folder."""
    return os.path.exists(os.path.join(folder, _COMPLETE))


def write(dataset, ids, folder, look):
    """Labels images; those that have a label in the folder are left out.

    Images are read ahead and looked at one by one.

    Args:
      dataset: datasets.base.Dataset.
      ids: of the images.
      folder: to write to.
      look: function of an id and its image, numpy uint8 [H, W, 3]; returns
        labels and confidences, numpy uint8 [H, W].

    Raises:
      OSError: cannot write.
    """
    missing = [name for name in ids if not os.path.exists(_label(folder, name))]
    if not missing:
        return
    rows = tf.data.Dataset.range(len(missing))
    images = (
        examples.pool(dataset, missing, labeled=False)
        .fetch(rows)
        .map(lambda image, _: decode.decode_image(image), tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    progress = tqdm.tqdm(images, "pseudo labels", len(missing), unit="image")
    # The bar first: it is asked once more, and ends.
    for image, name in zip(_explained(progress, dataset, missing), missing):
        label, confidence = look(name, image.numpy())
        predict.write_file(
            os.path.join(folder, "confidences", f"{name}.png"),
            tf.io.encode_png(confidence[..., None]).numpy(),
        )
        # The last one: it says that the image is done.
        predict.write_file(
            _label(folder, name),
            decode.encode_label(label, dataset.info.palette),
        )


def _explained(images, dataset, ids):
    """The images; of one that cannot be read, ValueError names the file."""
    try:
        yield from images
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
        pool = examples.pool(dataset, ids, labeled=False)
        data_check.raise_on(pool.damaged())
        raise


def by_network(run, threshold):
    """`look` of `write`: the classes that a network predicts.

    Large images are looked at by tiles, as `predict.predict_files` does.

    Args:
      run: runs.Run.
      threshold: probability; a pixel of a smaller one gets no label.
    """
    predicted = predict.looker(run)

    def look(name, image):
        del name
        class_map, confidence = predicted(image)
        label = np.where(confidence < 255 * threshold, 255, class_map)
        return label.astype(np.uint8), confidence

    return look


def describe(run, ids, folder, *, seconds, **settings):
    """Notes that the labels are complete, and what made them."""
    runs.write_json(
        os.path.join(folder, _COMPLETE),
        {
            "method": run.config.method.name,
            "step": run.step,
            **settings,
            "num_images": len(ids),
            "seconds": round(seconds, 1),
        },
    )


def seconds(folder):
    """What the labels of a complete folder have cost."""
    return runs.read_json(os.path.join(folder, _COMPLETE))["seconds"]


def ids(split):
    """The unlabeled images that have no true label in training."""
    labeled = frozenset(split.labeled)
    return tuple(name for name in split.unlabeled if name not in labeled)


def pool(dataset, ids, folder):
    """Examples of the given ids with the labels of a folder."""
    return pipeline.Pool(
        images=tuple(dataset.records[name].image for name in ids),
        labels=tuple(_label(folder, name) for name in ids),
        code=mask_code.MaskCode(),
    )


def check(dataset, ids, folder, *, max_pixels):
    """Refuses a folder whose labels are not those of all images.

    Args:
      dataset: datasets.base.Dataset.
      ids: of the images.
      folder: see the module.
      max_pixels: the most pixels that an image may have.

    Raises:
      ValueError: names labels that are missing, damaged or of another size.
    """
    labels = [_label(folder, name) for name in ids]
    missing = [i for i, path in zip(ids, labels) if not os.path.exists(path)]
    if missing:
        raise ValueError(
            f"{folder}: `config.data.pseudo_labels` has no labels of "
            f"{len(missing)} of {len(ids)} unlabeled images: "
            f"{id_lists.shorten(missing)}. Fix: run launch.pseudo_labels on "
            "the same data set, to its end."
        )
    images = [dataset.records[name].image for name in ids]
    sizes, wanted = (
        _sizes(paths, max_pixels=max_pixels) for paths in (labels, images)
    )
    for place in np.flatnonzero((sizes != wanted).any(1))[:1]:
        (height, width), (rows, columns) = sizes[place], wanted[place]
        raise ValueError(
            f"{labels[place]}: is {width} x {height} pixels (width x height) "
            f"but its image {images[place]} is {columns} x {rows}. Fix: run "
            "launch.pseudo_labels on this data set."
        )


def _sizes(paths, **limits):
    """int32 [N, 2], height and width."""
    sizes, findings = data_check.check_images(paths, **limits)
    data_check.raise_on(findings)
    return sizes


def _label(folder, name):
    return os.path.join(folder, "labels", f"{name}.png")
