# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation batches.

The training stream is a pure function of (seed, step): the example at a place
of a step follows from a stateless shuffle, its augmentation from a seed folded
from the place. So a run resumes at any step with the batches that it would
have seen, and workers agree without talking.

An epoch is as many whole batches as the pool fills, in a fresh order; the
images left over come in later epochs. A pool smaller than a batch repeats
within the batch.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfseg import lookup, mask_code
from tfseg.data import check, decode


@dataclasses.dataclass(frozen=True)
class Pool:
    """Files to draw from.

    Attributes:
      images: paths.
      labels: paths of the same length, or () for unlabeled images.
      code: of the masks.
    """

    images: tuple
    labels: tuple = ()
    code: mask_code.MaskCode = mask_code.MaskCode()


@dataclasses.dataclass(frozen=True)
class Slice:
    """The part of every global batch that this worker reads."""

    worker: int = 0
    num_workers: int = 1
    replicas: int = 1


def stream(pool, *, view, augmentation, batch, seed, start, stop, part):
    """Batches of one pool, one for each local replica of each step.

    Args:
      pool: Pool.
      view: name of a module in `tfseg.data.views`.
      augmentation: data.augmentation.Augmentation.
      batch: images a step over all workers and replicas.
      seed: (int, int); the second tells streams of one run apart.
      start: first step.
      stop: step after the last one.
      part: Slice.

    Returns:
      tf.data.Dataset of dicts, see the view, with a leading axis of
      batch / (workers * replicas).
    """
    see = lookup.module("data.views", view).view
    # Paths are one constant, not one per example.
    images = tf.constant(pool.images)
    labels = tf.constant(pool.labels) if pool.labels else None

    def example(index):
        step, place = _step_and_place(index, batch, start, part)
        chosen = _shuffled(step, place, len(pool.images), batch, seed)
        image = decode.decode_image(tf.io.read_file(images[chosen]))
        label = None
        if labels is not None:
            label = decode.decode_label(
                tf.io.read_file(labels[chosen]), pool.code
            )
        position = step * batch + place
        key = tf.random.fold_in(tf.constant(seed, tf.int32), position)
        return see(image, label, key, augmentation)

    per_worker = batch // part.num_workers
    indices = tf.data.Dataset.range((stop - start) * per_worker)
    examples = indices.map(example, tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(per_worker // part.replicas, drop_remainder=True)


def _step_and_place(index, batch, start, part):
    per_worker = batch // part.num_workers
    step = start + index // per_worker
    return step, part.worker * per_worker + index % per_worker


def _shuffled(step, place, size, batch, seed):
    """Index of the example at `place` of the global batch of `step`."""
    batches = max(1, size // batch)
    position = (step % batches * batch + place) % size
    key = tf.random.fold_in(tf.constant(seed, tf.int32), step // batches)
    # index_shuffle uses only some low bits of its key, and fold_in leaves the
    # epoch in them as it is: hashed, the orders do not come again.
    key = tf.random.stateless_uniform([2], key, None, None, tf.int64)
    return tf.random.experimental.index_shuffle(position, key, size - 1)


def together(streams):
    """{"labeled": ..., "unlabeled": ...} of batches, read ahead."""
    return tf.data.Dataset.zip(streams).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(pool, *, batch):
    """Whole images at their own size, those of one size in batches.

    Sizes come from the headers, so that no more than the batches in hand are
    in memory, however many sizes there are.

    Args:
      pool: Pool with labels.
      batch: most images in a batch.

    Returns:
      tf.data.Dataset of (uint8 [B, H, W, 3], int32 [B, H, W]), always in the
      same order.

    Raises:
      ValueError: a file has no readable header.
    """
    sizes, findings = check.check_images(pool.images, max_pixels=2**62)
    check.raise_on(findings)
    order, starts = _runs_of_one_size(sizes, batch)
    images = tf.constant([pool.images[i] for i in order])
    labels = tf.constant([pool.labels[i] for i in order])

    def example(index):
        image = decode.decode_image(tf.io.read_file(images[index]))
        label = decode.decode_label(tf.io.read_file(labels[index]), pool.code)
        return image, label

    def one_batch(start, stop):
        examples = tf.data.Dataset.range(start, stop).map(
            example, tf.data.AUTOTUNE, deterministic=True
        )
        return examples.batch(batch)

    ends = [*starts[1:], len(order)]
    spans = tf.data.Dataset.from_tensor_slices(
        (tf.constant(starts, tf.int64), tf.constant(ends, tf.int64))
    )
    return spans.flat_map(one_batch).prefetch(1)


def _runs_of_one_size(sizes, batch):
    """Order of the images by size, and where in it each batch starts."""
    order = np.lexsort(np.asarray(sizes).T[::-1])
    starts, size = [], None
    for place, index in enumerate(order):
        full = starts and place - starts[-1] == batch
        if full or tuple(sizes[index]) != size:
            starts.append(place)
            size = tuple(sizes[index])
    return order, starts
