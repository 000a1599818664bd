# SPDX-License-Identifier: Apache-2.0
"""How a run grows: examples in records, replicas, workers.

First start-up and memory with the number of examples in records. The index
has as many ids as the case says, of which one in a hundred has a mask; all of
them stand for the same few images, so that a million need no disk. `seconds`
is all from opening the records to the first batch of both streams:
`open_seconds`, `split_seconds` and `batch_seconds`; `ratio` is that of a case
to the first one; `peak_mib` is above what the process had before.

Then a training step of one and two replicas and workers, see `replicas`.
"""

import os
import tempfile
import time

import numpy as np
import tensorflow as tf

from tfseg import config as config_lib
from tfseg import examples, packed
from tfseg.benchmarks import base, replicas
from tfseg.data import augmentation, order, pipeline, record_writer
from tfseg.datasets import base as datasets

COLUMNS = ("seconds", "spread", "ratio", "peak_mib")
NETWORKS, METHODS = replicas.NETWORKS, replicas.METHODS
IMAGES, CLASSES, SIDE = 64, 5, 96


def run(
    *,
    networks,
    methods,
    numbers=(1_000, 10_000, 100_000, 1_000_000),
    repeats=3,
):
    """Measures one number of examples after the other, then the replicas.

    Args:
      networks: dict, name -> `config.network`.
      methods: dict, name -> `config.method`.
      numbers: of examples.
      repeats: times that each is started, in processes of their own; a step
        is timed five times as often.

    Yields:
      Records.
    """
    yield from records(numbers, repeats)
    yield from replicas.run(
        networks=networks, methods=methods, repeats=5 * repeats
    )


def records(numbers, repeats):
    """Those of the numbers of examples."""
    reference = None
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            write(folder, number)
            starts = [base.fresh(start, folder) for _ in range(repeats)]
        times = [sum(seconds.values()) for seconds, _ in starts]
        result = base.summary(times)
        reference = reference or result["seconds"]
        yield {
            "case": f"{number:,} examples",
            "precision": "uint8",
            **result,
            **{
                name: float(np.median([seconds[name] for seconds, _ in starts]))
                for name in starts[0][0]
            },
            "ratio": result["seconds"] / reference,
            "peak_mib": max(peak for _, peak in starts),
        }


def write(folder, number):
    """Records of a few images under many ids."""
    config = _config(folder)
    real = os.path.join(folder, "real")
    _write_few(real)
    index = record_writer.load(real)
    rows = np.arange(number) % IMAGES
    labeled = np.arange(number) % 100 == 1
    ids = "\n".join(f"{i:09}" for i in range(number))
    np.savez(
        os.path.join(folder, "index.npz"),
        ids=np.frombuffer(ids.encode(), np.uint8),
        shard=index.shard[rows],
        offset=index.offset[rows],
        length=index.length[rows],
        sizes=index.sizes[rows],
        labeled=labeled,
        class_counts=np.ones([labeled.sum(), CLASSES], np.int64),
        shard_bytes=index.shard_bytes,
    )
    for shard in index.shards:
        os.rename(shard, os.path.join(folder, os.path.basename(shard)))
    palette = datasets.voc_palette(CLASSES)
    info = datasets.Info("scale", tuple("abcde"), palette)
    packed.describe(config, info, info.mask_code(), {}, {}, folder)


def start(folder):
    """Seconds of each part of a start, and the peak of memory, MiB."""
    before = base.peak_mib()
    config, times = _config(folder), {}
    begin = time.perf_counter()
    dataset = examples.open_dataset(config)
    times["open_seconds"] = time.perf_counter() - begin
    begin = time.perf_counter()
    split = examples.checked_split(config, dataset)
    times["split_seconds"] = time.perf_counter() - begin
    begin = time.perf_counter()
    next(iter(_batches(config, dataset, split)))
    times["batch_seconds"] = time.perf_counter() - begin
    return times, base.peak_mib() - before


def _batches(config, dataset, split):
    shared = dict(
        augmentation=augmentation.Augmentation.of(config.data),
        batch=8,
        seed=(0, 0),
        start=0,
        stop=100,
        part=order.Slice(),
    )
    return pipeline.together(
        {
            "labeled": pipeline.stream(
                examples.pool(dataset, split.labeled), view="plain", **shared
            ),
            "unlabeled": pipeline.stream(
                examples.pool(dataset, split.unlabeled, labeled=False),
                view="weak_strong",
                **shared,
            ),
        }
    )


def _config(folder):
    config = config_lib.base_config()
    config.dataset.name = "scale"
    config.data.records = folder
    config.data.crop = (64, 64)
    return config


def _write_few(folder):
    """Images of noise, each with a mask."""
    os.makedirs(folder)
    random = np.random.default_rng(0)
    images, labels = [], []
    for number in range(IMAGES):
        for paths, channels in ((images, 3), (labels, 1)):
            values = random.integers(0, CLASSES, (SIDE, SIDE, channels))
            paths.append(os.path.join(folder, f"{number}_{channels}.png"))
            png = tf.io.encode_png(values.astype(np.uint8))
            tf.io.write_file(paths[-1], png)
    source = record_writer.Source(
        ids=tuple(f"{i:09}" for i in range(IMAGES)),
        images=tuple(images),
        labels=tuple(labels),
        sizes=np.full([IMAGES, 2], SIDE, np.int32),
        class_counts=np.ones([IMAGES, CLASSES], np.int64),
    )
    record_writer.write(folder, source, shard_bytes=2**20)
