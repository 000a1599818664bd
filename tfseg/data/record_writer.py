# SPDX-License-Identifier: Apache-2.0
"""Writes the records that `tfseg.data.records` reads.

Bytes of images and masks stay as they are. A shard is complete when its part
of the index stands beside it; writing goes on after the last complete one, and
the same examples give the same bytes.
"""

import dataclasses
import functools
import hashlib
import io
import multiprocessing.pool
import os

import numpy as np
import tensorflow as tf
import tqdm

from tfseg import id_lists
from tfseg.data import records

_INDEX = "index.npz"
_READERS = 16
_READ_AHEAD = 64


@dataclasses.dataclass(frozen=True)
class Source:
    """Files to write, N of them, in any order.

    Attributes:
      ids: N different strings.
      images: paths.
      labels: paths, None where there is no mask.
      sizes: int32 [N, 2], height and width, pixels.
      class_counts: int64 [N, C], pixels of each class; zeros without a mask.
    """

    ids: tuple
    images: tuple
    labels: tuple
    sizes: np.ndarray
    class_counts: np.ndarray


def write(folder, source, *, shard_bytes):
    """Writes shards and the index; goes on where it was interrupted.

    Args:
      folder: to write to; may be an object store's path.
      source: Source.
      shard_bytes: a shard ends with the example that reaches this length.

    Raises:
      ValueError: the folder holds other examples, or what these were before
        they changed.
      OSError: cannot read or write.
    """
    index = os.path.join(folder, _INDEX)
    if tf.io.gfile.exists(index):
        by_id = sorted(range(len(source.ids)), key=source.ids.__getitem__)
        _check_same(folder, _written(load(folder)), source, by_id)
        return
    tf.io.gfile.makedirs(folder)
    order = sorted(range(len(source.ids)), key=lambda i: _hash(source.ids[i]))
    parts, done = _complete_parts(folder), 0
    for part in parts:
        rows = order[done : done + len(part["ids"])]
        _check_same(folder, part, source, rows)
        done += len(rows)
    with tqdm.tqdm(
        desc="records", initial=done, total=len(order), disable=None
    ) as bar, multiprocessing.pool.ThreadPool(_READERS) as pool:
        examples = _serialized(source, order[done:], pool)
        while done < len(order):
            part = _write_shard(folder, len(parts), examples, shard_bytes, bar)
            rows = part.pop("rows")
            part |= _described(source, rows)
            _save(_part_path(folder, len(parts)), part)
            parts.append(part)
            done += len(rows)
    _save(index, _merged(parts))
    for number in range(len(parts)):
        tf.io.gfile.remove(_part_path(folder, number))


def load(folder):
    """The Index of a folder.

    Raises:
      ValueError: no complete records there.
    """
    path = os.path.join(folder, _INDEX)
    if not tf.io.gfile.exists(path):
        raise ValueError(
            f"{path}: no such file, so {folder} holds no complete records. "
            "Fix: run python -m launch.prepare --records=... to its end."
        )
    values = _load(path)
    shards = tuple(
        _shard_path(folder, number)
        for number in range(len(values["shard_bytes"]))
    )
    for shard, length in zip(shards, values["shard_bytes"]):
        try:
            found = tf.io.gfile.stat(shard).length
        except tf.errors.NotFoundError:
            found = None
        if found != length:
            state = "is missing" if found is None else f"has {found:,} bytes"
            raise ValueError(
                f"{shard}: {state}, the index says {length:,} bytes. "
                "Fix: copy the file again, or write the records again."
            )
    ids = values.pop("ids").tobytes().decode().split("\n")
    return records.Index(shards=shards, ids=tuple(ids), **values)


def _write_shard(folder, number, examples, shard_bytes, bar):
    """Writes one shard; its part of the index, rows instead of ids."""
    path = _shard_path(folder, number)
    rows, offsets, lengths, position = [], [], [], 0
    with tf.io.TFRecordWriter(f"{path}.partial") as writer:
        for row, example in examples:
            writer.write(example)
            rows.append(row)
            offsets.append(position + records.HEADER_BYTES)
            lengths.append(len(example))
            position = offsets[-1] + len(example) + records.FOOTER_BYTES
            bar.update()
            if position >= shard_bytes:
                break
    tf.io.gfile.rename(f"{path}.partial", path, overwrite=True)
    return {
        "rows": rows,
        "offset": np.array(offsets, np.int64),
        "length": np.array(lengths, np.int64),
        "shard_bytes": np.array(position, np.int64),
    }


def _serialized(source, rows, pool):
    """Yields (row, serialized example), read ahead by a few at a time."""
    for start in range(0, len(rows), _READ_AHEAD):
        ahead = rows[start : start + _READ_AHEAD]
        read = functools.partial(_serialize, source)
        yield from zip(ahead, pool.map(read, ahead, chunksize=1))


def _serialize(source, row):
    with tf.io.gfile.GFile(source.images[row], "rb") as file:
        image = file.read()
    label = b""
    if source.labels[row] is not None:
        with tf.io.gfile.GFile(source.labels[row], "rb") as file:
            label = file.read()
    values = {
        "id": source.ids[row].encode(),
        "image": image,
        "label": label,
        "sha256": hashlib.sha256(image + label).digest(),
    }
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _merged(parts):
    """The whole index, by sorted ids."""
    ids = np.concatenate([part["ids"] for part in parts])
    order = np.argsort(ids, kind="stable")
    shard = np.repeat(
        np.arange(len(parts), dtype=np.int32), [len(p["ids"]) for p in parts]
    )

    def joined(name):
        return np.concatenate([part[name] for part in parts])[order]

    labeled = joined("labeled")
    text = "\n".join(ids[order].tolist()).encode()
    return {
        "ids": np.frombuffer(text, np.uint8),
        "shard": shard[order],
        "offset": joined("offset"),
        "length": joined("length"),
        "sizes": joined("sizes"),
        "labeled": labeled,
        "class_counts": joined("counts")[labeled],
        "shard_bytes": np.stack([part["shard_bytes"] for part in parts]),
    }


def _complete_parts(folder):
    parts = []
    while tf.io.gfile.exists(_part_path(folder, len(parts))):
        parts.append(_load(_part_path(folder, len(parts))))
    return parts


def _described(source, rows):
    """What the index says of examples besides where they are."""
    return {
        "ids": np.array([source.ids[i] for i in rows]),
        "sizes": source.sizes[rows],
        "labeled": np.array([source.labels[i] is not None for i in rows]),
        "counts": source.class_counts[rows],
    }


def _written(index):
    """What `_described` returned of the examples of an Index."""
    classes = index.class_counts.shape[1]
    counts = np.zeros([len(index.ids), classes], np.int64)
    counts[index.labeled] = index.class_counts
    return {
        "ids": np.array(index.ids),
        "sizes": index.sizes,
        "labeled": index.labeled,
        "counts": counts,
    }


def _check_same(folder, found, source, rows):
    """Refuses examples that are others, or have changed since."""
    expected = _described(source, rows)
    ids = found["ids"].tolist()
    if ids != expected["ids"].tolist():
        known = len(set(ids) & set(expected["ids"].tolist()))
        raise ValueError(
            f"{folder} holds records of other examples: {len(ids)} are "
            f"there, {known} of them expected. Fix: "
            "choose another folder, or remove this one."
        )
    same = found["labeled"] == expected["labeled"]
    same &= (found["sizes"] == expected["sizes"]).all(1)
    if found["counts"].shape == expected["counts"].shape:
        same &= (found["counts"] == expected["counts"]).all(1)
    else:
        same[:] = False
    if not same.all():
        changed = [name for name, kept in zip(ids, same) if not kept]
        raise ValueError(
            f"{folder} holds what {len(changed)} of {len(ids)} examples were "
            "before their sizes, masks or classes changed: "
            f"{id_lists.shorten(changed)}. Fix: choose another folder, or "
            "remove this one."
        )


def _save(path, values):
    """Writes beside and renames, so that a reader never sees half a file."""
    buffer = io.BytesIO()
    np.savez(buffer, **values)
    with tf.io.gfile.GFile(f"{path}.partial", "wb") as file:
        file.write(buffer.getvalue())
    tf.io.gfile.rename(f"{path}.partial", path, overwrite=True)


def _load(path):
    with tf.io.gfile.GFile(path, "rb") as file:
        values = np.load(io.BytesIO(file.read()), allow_pickle=False)
    return {name: values[name] for name in values.files}


def _hash(name):
    return hashlib.sha256(name.encode()).digest()


def _shard_path(folder, number):
    return os.path.join(folder, f"examples-{number:05}.tfrecord")


def _part_path(folder, number):
    return os.path.join(folder, f"index-{number:05}.part.npz")
