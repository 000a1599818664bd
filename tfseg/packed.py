# SPDX-License-Identifier: Apache-2.0
"""A data set as records: `config.data.records` instead of its files.

    FOLDER/dataset.json   what the records are made of: the config of the data
                          set, its classes, mask code and lists
    FOLDER/...            see tfseg.data.records

Everything that training checks in the files was checked when they were
packed, so that a million examples start in seconds.
"""

import dataclasses
import json
import os

import numpy as np
import tensorflow as tf

from tfseg import config as config_lib
from tfseg import mask_code
from tfseg.data import record_writer
from tfseg.datasets import base as datasets

_DATASET = "dataset.json"


def write(config, dataset, files, folder, *, shard_mib=128):
    """Writes a data set as records; goes on where it was interrupted.

    Args:
      config: ConfigDict of the data set.
      dataset: datasets.base.Dataset.
      files: examples.Files of it, without findings.
      folder: to write to, also of an object store.
      shard_mib: length of a shard, MiB.

    Raises:
      ValueError: the folder holds records of other examples.
      OSError: cannot read or write.
    """
    counts = np.zeros([len(files.records), dataset.info.num_classes], np.int64)
    counts[list(files.labeled)] = files.counts
    source = record_writer.Source(
        ids=tuple(record.id for record in files.records),
        images=tuple(record.image for record in files.records),
        labels=tuple(record.label for record in files.records),
        sizes=files.sizes,
        class_counts=counts,
    )
    record_writer.write(folder, source, shard_bytes=shard_mib * 2**20)
    classes = {
        record.id: record.classes
        for record in files.records
        if record.classes is not None
    }
    describe(
        config,
        dataset.info,
        dataset.mask_code,
        dataset.partitions,
        classes,
        folder,
    )


def describe(config, info, code, partitions, classes, folder):
    """Writes what belongs to records besides the examples.

    Args:
      config: ConfigDict of the data set.
      info, code, partitions: of the data set.
      classes: dict, id -> weak labels.
      folder: of the records.
    """
    description = {
        "config": _comparable(config),
        "info": info.to_dict(),
        "mask_code": dataclasses.asdict(code),
        "partitions": partitions,
        "classes": classes,
    }
    with tf.io.gfile.GFile(os.path.join(folder, _DATASET), "w") as file:
        file.write(json.dumps(description))


def open_dataset(config):
    """The data set in `config.data.records`.

    Returns:
      datasets.base.Dataset with an index.

    Raises:
      ValueError: no complete records, or those of another data set.
    """
    folder = config.data.records
    index = record_writer.load(folder)
    path = os.path.join(folder, _DATASET)
    if not tf.io.gfile.exists(path):
        raise ValueError(
            f"{path}: no such file, so {folder} holds no complete records. "
            "Fix: run python -m launch.prepare --records=... to its end."
        )
    with tf.io.gfile.GFile(path) as file:
        description = json.loads(file.read())
    lines = config_lib.difference(
        {"dataset": description["config"]}, {"dataset": _comparable(config)}
    )
    if lines:
        raise ValueError(
            f"{folder} holds records of another data set (there -> config):"
            "\n  " + "\n  ".join(lines)
        )
    classes = description["classes"]
    code = description["mask_code"]
    return datasets.Dataset(
        info=datasets.Info.from_dict(description["info"]),
        records={
            name: datasets.Record(
                name,
                index.shards[shard],
                index.shards[shard] if labeled else None,
                tuple(classes[name]) if name in classes else None,
            )
            for name, shard, labeled in zip(
                index.ids, index.shard.tolist(), index.labeled.tolist()
            )
        },
        partitions={
            name: tuple(ids) for name, ids in description["partitions"].items()
        },
        mask_code=mask_code.MaskCode(
            tuple(tuple(color) for color in code["colors"]),
            tuple(code["color_labels"]),
            tuple(code["index_labels"]),
        ),
        index=index,
    )


def _comparable(config):
    """The data set's options, without the folder: that may have moved."""
    options = config.dataset.to_dict()
    options.pop("dir", None)
    return json.loads(json.dumps(options))
