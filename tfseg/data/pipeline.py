# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation batches.

The training stream is a pure function of (seed, step): the example at a
position follows from a stateless shuffle, see `order`, its augmentation from a
seed folded from the position. So a run resumes at any step with the batches
that it would have seen, and workers agree without talking.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfseg import lookup, mask_code
from tfseg.data import check, decode, order

# Nothing here needs AutoGraph, whose rewriting takes longer than the tracing.
_as_written = tf.autograph.experimental.do_not_convert


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

    @property
    def labeled(self):
        """Whether the examples have labels."""
        return bool(self.labels)

    def sizes(self):
        """int32 [N, 2], height and width of the images, from their headers.

        Raises:
          ValueError: a file has no readable header.
        """
        sizes, findings = check.check_images(self.images, max_pixels=2**62)
        check.raise_on(findings)
        return sizes

    def damaged(self):
        """Findings of the images that cannot be decoded."""
        return check.find_undecodable(self.images)

    def fetch(self, rows):
        """tf.data.Dataset of int64 rows -> of (image, label) as in the files.

        The label is an empty string where there is none.
        """
        read = self._reader()
        return rows.map(_as_written(read), tf.data.AUTOTUNE, deterministic=True)

    def draw(self, *, batch, seed, start, stop, part):
        """tf.data.Dataset of (position, image, label) in training order."""
        read = self._reader()
        size = len(self.images)

        def example(position):
            return position, *read(order.shuffled(position, size, batch, seed))

        positions = order.positions(batch, start, stop, part)
        return positions.map(
            _as_written(example), tf.data.AUTOTUNE, deterministic=True
        )

    def _reader(self):
        # Paths are one constant, not one per example.
        images = tf.constant(self.images)
        labels = tf.constant(self.labels) if self.labels else None

        def read(row):
            image = tf.io.read_file(images[row])
            if labels is None:
                return image, tf.constant("")
            return image, tf.io.read_file(labels[row])

        return read


def stream(pool, *, view, augmentation, batch, seed, start, stop, part):
    """Batches of one pool, one for each local replica of each step.

    Args:
      pool: Pool, or one of data.records.
      view: name of a module in `tfseg.data.views`.
      augmentation: data.augmentation.Augmentation.
      batch: images a step over all workers and replicas.
      seed: (int, int); the second tells streams of one run apart.
      start: first step.
      stop: step after the last one.
      part: order.Slice.

    Returns:
      tf.data.Dataset of dicts, see the view, with a leading axis of
      batch / (workers * replicas).
    """
    see = lookup.module("data.views", view).view

    def example(position, image, label):
        image = decode.decode_image(image)
        label = decode.decode_label(label, pool.code) if pool.labeled else None
        key = tf.random.fold_in(tf.constant(seed, tf.int32), position)
        return see(image, label, key, augmentation)

    encoded = pool.draw(
        batch=batch, seed=seed, start=start, stop=stop, part=part
    )
    examples = encoded.map(
        _as_written(example), tf.data.AUTOTUNE, deterministic=True
    )
    share = batch // (part.num_workers * part.replicas)
    return examples.batch(share, drop_remainder=True)


def rows(values, *, batch, seed, start, stop, part):
    """Rows of an array, in the order in which `stream` draws from a Pool.

    Args:
      values: [N, ...], a row for each example of the pool.
      batch, seed, start, stop, part: see `stream`.

    Returns:
      tf.data.Dataset of [batch / (workers * replicas), ...].
    """
    size, values = len(values), tf.constant(values)
    drawn = order.positions(batch, start, stop, part).map(
        lambda position: values[order.shuffled(position, size, batch, seed)]
    )
    share = batch // (part.num_workers * part.replicas)
    return drawn.batch(share, drop_remainder=True)


def together(streams):
    """{"labeled": ..., "unlabeled": ...} of batches, read ahead."""
    return tf.data.Dataset.zip(streams).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(pool, *, batch):
    """Whole images at their own size, those of one size in batches.

    Sizes are known beforehand, so that no more than the batches in hand are
    in memory, however many sizes there are.

    Args:
      pool: Pool, or one of data.records, with labels.
      batch: most images in a batch.

    Returns:
      tf.data.Dataset of (uint8 [B, H, W, 3], int32 [B, H, W]), always in the
      same order.

    Raises:
      ValueError: a file has no readable header.
    """
    rows, starts = _runs_of_one_size(pool.sizes(), batch)
    counts = np.diff([*starts, len(rows)])
    numbers = tf.constant(np.repeat(np.arange(len(starts)), counts), tf.int64)
    counts = tf.constant(counts, tf.int64)

    def example(image, label):
        image = decode.decode_image(image)
        return image, decode.decode_label(label, pool.code)

    rows = tf.data.Dataset.from_tensor_slices(tf.constant(rows, tf.int64))
    examples = pool.fetch(rows).map(
        _as_written(example), tf.data.AUTOTUNE, deterministic=True
    )
    numbered = tf.data.Dataset.zip(
        (tf.data.Dataset.from_tensor_slices(numbers), examples)
    )
    # Not a flat_map over the batches: that sets up reading and decoding anew
    # for each of them, which takes longer than a small batch itself.
    batches = numbered.group_by_window(
        lambda number, _: number,
        lambda _, group: group.batch(batch),
        window_size_func=lambda number: counts[number],
    )
    return batches.map(lambda _, pair: pair).prefetch(1)


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
