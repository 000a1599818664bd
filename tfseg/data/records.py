# SPDX-License-Identifier: Apache-2.0
"""Examples in few large files: sharded TFRecords with an index.

    FOLDER/examples-00000.tfrecord   one tf.train.Example each: `id`, `image`
                                     and `label` as in the files, `sha256` of
                                     both
    FOLDER/index.npz                 where each example stands, its size and
                                     the pixels of each class

Examples stand in an order that is a hash of their ids, so that any run of
them is a sample of all. A pool that fits into memory is read once and drawn
as files are. A larger one is drawn by windows: runs of examples that are read
in the order in which they stand and shuffled in memory, the windows in a
fresh order every epoch. Which example stands at which position is a function
of the seed and the position in both cases.
"""

import dataclasses
import functools
import hashlib

import numpy as np
import tensorflow as tf

from tfseg import mask_code
from tfseg.data import check, order

IN_MEMORY_BYTES = 256 * 2**20
WINDOW_BYTES = 64 * 2**20
# A TFRecord: length, its checksum, the data, their checksum.
HEADER_BYTES, FOOTER_BYTES = 12, 4
_FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.string),
}
_READERS = 16


@dataclasses.dataclass(frozen=True)
class Index:
    """Where N examples stand.

    Attributes:
      shards: paths of the files.
      shard_bytes: int64 [S], their lengths.
      ids: N strings, sorted.
      shard: int32 [N], index into `shards`.
      offset: int64 [N], of the serialized example in its shard, bytes.
      length: int64 [N], bytes.
      sizes: int32 [N, 2], height and width of the image, pixels.
      labeled: bool [N].
      class_counts: int64 [L, C], pixels of each class in each labeled one.
    """

    shards: tuple
    shard_bytes: np.ndarray
    ids: tuple
    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    sizes: np.ndarray
    labeled: np.ndarray
    class_counts: np.ndarray

    @functools.cached_property
    def rows(self):
        """dict, id -> row."""
        return {name: row for row, name in enumerate(self.ids)}


class Pool:
    """Examples of records to draw from; see `pipeline.Pool`.

    Args:
      index: Index.
      rows: int [M], rows of the index.
      labeled: whether to read the labels.
      code: mask_code.MaskCode.
      in_memory_bytes: the most that a pool may have to be read at once;
        IN_MEMORY_BYTES if None.
      window_bytes: of a window, of which two are in memory at a time;
        WINDOW_BYTES if None.
    """

    def __init__(
        self,
        index,
        rows,
        *,
        labeled,
        code=mask_code.MaskCode(),
        in_memory_bytes=None,
        window_bytes=None,
    ):
        self.labeled, self.code = labeled, code
        self._ids = [index.ids[row] for row in rows]
        self._sizes = index.sizes[rows]
        self._shards = tf.constant(index.shards)
        self._shard_bytes = tf.constant(index.shard_bytes, tf.int64)
        self._num_bytes = int(index.length[rows].sum())
        self._in_memory_bytes = (
            IN_MEMORY_BYTES if in_memory_bytes is None else in_memory_bytes
        )
        self._window_bytes = window_bytes or WINDOW_BYTES
        # Where rows of this pool stand, in the caller's order ...
        self._places = tuple(
            tf.constant(values[rows], tf.int64)
            for values in (index.shard, index.offset, index.length)
        )
        # ... and the rows in the order in which they stand.
        stored = np.lexsort((index.offset[rows], index.shard[rows]))
        self._stored = tf.constant(stored, tf.int64)

    def __len__(self):
        return len(self._sizes)

    def sizes(self):
        """int32 [M, 2], height and width of the images."""
        return self._sizes

    def damaged(self):
        """Findings of the examples that are not what was written."""
        rows = tf.data.Dataset.range(len(self))
        return [
            check.Finding(
                str(self._shards[int(self._places[0][row])].numpy().decode()),
                self._ids[row],
                f"holds other bytes than were written of {self._ids[row]!r}",
                "copy the file again, or write the records again",
                "damaged",
            )
            for row, example in enumerate(self._read(rows))
            if not _is_whole(example)
        ]

    def fetch(self, rows):
        """tf.data.Dataset of int64 rows -> of (image, label)."""
        return self._read(rows).map(self._parse, tf.data.AUTOTUNE)

    def draw(self, *, batch, seed, start, stop, part):
        """tf.data.Dataset of (position, image, label) in training order."""
        draw = self._draw_windows
        if self._num_bytes <= self._in_memory_bytes or batch > len(self):
            draw = self._draw_from_memory
        drawn = draw(batch, seed, start, stop, part)
        return drawn.map(
            lambda position, example: (position, *self._parse(example)),
            tf.data.AUTOTUNE,
        )

    def _read(self, rows):
        """Serialized examples of rows, in the order of the rows.

        Only the bytes of an example are read. Those that stand together are
        asked for together, so that what reads ahead finds them in one go.
        """

        def one(row):
            shard, offset, length = (values[row] for values in self._places)
            return tf.data.FixedLengthRecordDataset(
                self._shards[shard],
                length,
                header_bytes=offset,
                footer_bytes=self._shard_bytes[shard] - offset - length,
            )

        return rows.interleave(
            one, _READERS, num_parallel_calls=_READERS, deterministic=True
        )

    def _parse(self, example):
        features = tf.io.parse_single_example(example, _FEATURES)
        return features["image"], features["label"]

    def _draw_from_memory(self, batch, seed, start, stop, part):
        stored = self._read(tf.data.Dataset.from_tensor_slices(self._stored))
        examples = np.empty([len(self)], object)
        examples[self._stored.numpy()] = list(stored.as_numpy_iterator())
        examples = tf.constant(examples)

        def example(position):
            row = order.shuffled(position, len(self), batch, seed)
            return position, examples[row]

        return order.positions(batch, start, stop, part).map(example)

    def _draw_windows(self, batch, seed, start, stop, part):
        size = len(self)
        share = batch // part.num_workers
        in_epoch = order.batches_per_epoch(size, batch) * batch
        window = max(1, size * self._window_bytes // self._num_bytes)
        window = min(window, size)

        def numbered(number, places, examples):
            # What an epoch leaves over has no position.
            inside = places < in_epoch
            return tf.where(inside, places + number * in_epoch, -1), examples

        def epoch(number):
            first = tf.maximum(start * batch - number * in_epoch, 0)
            last = tf.minimum(stop * batch - number * in_epoch, in_epoch)
            windows = tf.data.Dataset.range(
                first // window, (last - 1) // window + 1
            )
            key = order.epoch_key(seed, number)
            return windows.flat_map(
                lambda place: self._window(place, window, key)
            ).map(functools.partial(numbered, number))

        def mine(position, _):
            inside = (position >= start * batch) & (position < stop * batch)
            return inside & (position % batch // share == part.worker)

        epochs = tf.data.Dataset.range(
            start * batch // in_epoch, (stop * batch - 1) // in_epoch + 1
        )
        # Prefetched as a whole: one window is read while another is used up.
        drawn = epochs.flat_map(epoch).prefetch(1).unbatch()
        return drawn.filter(mine)

    def _window(self, place, window, key):
        """One element: positions in the epoch, and their examples.

        The windows of an epoch are cut from the examples as they stand, from
        a random one on and around the end; the last, shorter one comes last.
        """
        size = len(self)
        whole = size // window
        is_whole = place < whole
        number = tf.where(
            is_whole,
            tf.random.experimental.index_shuffle(
                tf.minimum(place, whole - 1), key, whole - 1
            ),
            tf.constant(whole, tf.int64),
        )
        length = tf.where(
            is_whole,
            tf.constant(window, tf.int64),
            tf.constant(size - whole * window, tf.int64),
        )
        origin = tf.random.stateless_uniform([], key, 0, size, tf.int64)
        steps = tf.range(length)
        rows = tf.gather(
            self._stored, (origin + number * window + steps) % size
        )
        inner = tf.random.fold_in(tf.cast(key % 2**31, tf.int32), number)
        shuffled = tf.random.experimental.index_shuffle(
            steps,
            tf.random.stateless_uniform([2], inner, None, None, tf.int64),
            length - 1,
        )
        read = self._read(tf.data.Dataset.from_tensor_slices(rows))
        return read.batch(length).map(
            lambda examples: (
                place * window + steps,
                tf.gather(examples, shuffled),
            )
        )


def _is_whole(serialized):
    features = {**_FEATURES, "sha256": tf.io.FixedLenFeature([], tf.string)}
    try:
        example = tf.io.parse_single_example(serialized, features)
    # The second where the message holds a broken feature name.
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        return False
    image, label, digest = (
        example[name].numpy() for name in ("image", "label", "sha256")
    )
    return hashlib.sha256(image + label).digest() == digest
