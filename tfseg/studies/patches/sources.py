# SPDX-License-Identifier: Apache-2.0
"""Images to look at: the user's photographs, or those of a data set."""

import dataclasses
import functools
from typing import Callable, Tuple

import numpy as np
import tensorflow as tf
import tqdm
from absl import logging

from tfseg import config as config_lib
from tfseg import examples, predict
from tfseg.data import check, pipeline

# What a damaged, and what a missing file leads to.
_INPUT_ERRORS = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError)


@dataclasses.dataclass(frozen=True)
class Source:
    """M images that can be looked at again and again.

    Attributes:
      title: of all of them.
      names: of each; paths below a folder.
      sizes: int [M, 2], height and width.
      stream: function, () -> iterator of (uint8 [H, W, 3], int32 [H, W], or
        None where there are no labels), in the order of the names.
      pictured: M times whether to draw it.
    """

    title: str
    names: Tuple[str, ...]
    sizes: np.ndarray
    stream: Callable
    pictured: Tuple[bool, ...]


def photographs(images, workdir, limit):
    """Images without labels, the first ones by name.

    Args:
      images: image file, folder (with sub-folders) or glob pattern.
      workdir: what is below it was written by an earlier run.
      limit: the most images.

    Returns:
      Source; all images are drawn.

    Raises:
      ValueError: there is none, or one cannot be read.
    """
    try:
        found = predict.find_images(images, workdir)
    except ValueError:
        raise ValueError(
            f"No image matches `images` {images!r}. Give an image, a folder "
            f"with {', '.join(predict.SUFFIXES)} files, or a pattern in quotes."
        ) from None
    paths = list(found)[:limit]
    logging.info("looking at %d of %d images", len(paths), len(found))
    sizes, findings = check.check_images(
        paths, max_pixels=config_lib.base_config().data.max_pixels
    )
    check.raise_on(findings)
    check.raise_on(check.find_undecodable(paths))
    return Source(
        title=str(images),
        names=tuple(found[path] for path in paths),
        sizes=sizes,
        stream=lambda: ((check.read_image(path)[1], None) for path in paths),
        pictured=(True,) * len(paths),
    )


def labeled(config, limit, *, seed, pictures):
    """Labeled images of a data set: of its train list, if it has one.

    Args:
      config: ConfigDict; its data set and its limit of pixels count.
      limit: the most images; of more, that many are drawn.
      seed: of the choice.
      pictures: how many of them to draw.

    Returns:
      Source, in the order of the sizes.

    Raises:
      ValueError: less than two images have labels, or files are wrong.
    """
    config_lib.validate(config)
    dataset = examples.open_dataset(config)
    known = [
        name
        for name in dataset.partitions.get("train", dataset.records)
        if dataset.records[name].label
    ]
    names = np.random.default_rng(seed).permutation(known)[:limit].tolist()
    if len(names) < 2:
        raise ValueError(
            f"An anchor and its positive are of two labeled images. Received: "
            f"{len(known)} of {dataset.info.name!r}, max_images={limit}. Fix: "
            "a data set with masks, or `images` for heat maps alone."
        )
    logging.info("looking at %d of %d labeled images", len(names), len(known))
    reduced = dataclasses.replace(
        dataset, records={name: dataset.records[name] for name in names}
    )
    examples.check_files(config, reduced, check.raise_on)
    sizes = examples.pool(dataset, names).sizes()
    # That of the batches.
    order = np.lexsort(sizes.T[::-1])
    names = [names[i] for i in order]
    pool = examples.pool(dataset, names)
    return Source(
        title=dataset.info.name,
        names=tuple(names),
        sizes=sizes[order],
        # One graph, however often it is gone through.
        stream=functools.partial(
            _stream, pool, pipeline.evaluation_batches(pool, batch=1)
        ),
        pictured=tuple((order < pictures).tolist()),
    )


def _stream(pool, batches):
    try:
        for image, label in batches:
            yield image[0].numpy(), label[0].numpy()
    except _INPUT_ERRORS:
        check.raise_on(pool.damaged())
        raise


def read(source, name):
    """Goes through a source once, with a progress bar on a terminal.

    Args:
      source: Source.
      name: of the bar.

    Returns:
      iterator, see Source.stream.
    """
    return tqdm.tqdm(
        source.stream(),
        desc=name,
        total=len(source.names),
        disable=None,
        delay=3,
    )
