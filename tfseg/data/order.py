# SPDX-License-Identifier: Apache-2.0
"""Which example stands at which place of which step.

A position counts the places of all global batches of a run: step * batch +
place. An epoch is as many whole batches as a pool fills, in a fresh order; the
examples left over come in later epochs. A pool smaller than a batch repeats
within the batch.
"""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Slice:
    """The part of every global batch that this worker reads."""

    worker: int = 0
    num_workers: int = 1
    replicas: int = 1


def positions(batch, start, stop, part):
    """Positions that a worker reads, in the order of the steps.

    Args:
      batch: examples a step over all workers.
      start: first step.
      stop: step after the last one.
      part: Slice.

    Returns:
      tf.data.Dataset of int64 scalars.
    """
    share = batch // part.num_workers

    def position(index):
        step = start + index // share
        return step * batch + part.worker * share + index % share

    return tf.data.Dataset.range((stop - start) * share).map(
        tf.autograph.experimental.do_not_convert(position)
    )


def batches_per_epoch(size, batch):
    """Whole batches that a pool fills, at least one."""
    return max(1, size // batch)


def epoch_key(seed, epoch):
    """int64 [2], the key of an epoch's order.

    `index_shuffle` uses only some low bits of its key, and `fold_in` leaves
    the epoch in them as it is: hashed, the orders do not come again.
    """
    key = tf.random.fold_in(tf.constant(seed, tf.int32), epoch)
    return tf.random.stateless_uniform([2], key, None, None, tf.int64)


def shuffled(position, size, batch, seed):
    """Row of the example at a position, in 0..size - 1.

    Args:
      position: int64 scalar.
      size: rows of the pool.
      batch: examples a step over all workers.
      seed: (int, int).
    """
    length = batches_per_epoch(size, batch) * batch
    return tf.random.experimental.index_shuffle(
        position % length % size, epoch_key(seed, position // length), size - 1
    )
