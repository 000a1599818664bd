# SPDX-License-Identifier: Apache-2.0
"""How fast the training input is beside the mere decoding of its JPEGs.

A case is a view of photograph-like JPEGs of the size of PASCAL VOC's, from
files, or from records that are read by windows as a data set larger than
memory is. `plain` is the labeled stream, so it decodes a mask as well; the
others are unlabeled. An image is one that is taken in, whatever the view makes
of it: of an image of `overlap_pair` and `affine_pair` come two crops, of
`weak_strong` one crop twice. `seconds` is that of an image, `bare_seconds` that
of an image in a parallel map that reads a file and decodes it, nothing else,
measured in turn; `ratio` is images a second over bare images a second. "only
filled" decodes and fills the crops with a number, the least to be done.

The settings of a view are those of the VOC config of a method that uses it:
`voc_supervised`, `voc_cutmix` with the changed colors of the authors' scripts,
`voc_cac`, `voc_pi_model`. Crops of `overlap_pair` are rounded down to whole
strides.

Then the share of a training run that is spent waiting for a batch, while the
input competes with the steps for the same processors. There `seconds` is that
of a step of the loop, and `ratio` that of a batch without steps
(`data_seconds`) over that of a step without input (`step_seconds`); where only
the input is measured, `waiting_share` is 1.
"""

import functools
import itertools
import multiprocessing
import os
import tempfile
import time

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfseg import config as config_lib
from tfseg.benchmarks import base, step
from tfseg.data import augmentation, decode, order
from tfseg.data import pipeline as pipelines
from tfseg.data import record_writer, records
from tfseg.datasets import base as datasets

COLUMNS = (
    "crop",
    "seconds",
    "spread",
    "images_per_second",
    "ratio",
    "waiting_share",
    "peak_mib",
)
NETWORKS = ("mobilenet_v3",)
METHODS = ("cutmix",)
CROPS = (321, 512, 800)
SOURCES = ("files", "records")
FILLED = "only filled"
# View -> what its VOC config changes in `config.data`, besides the crop.
VIEWS = {
    "plain": {},
    "weak_strong": {"scale": (0.5, 1.5), "jitter_rate": 0.8, "gray_rate": 0.2},
    "overlap_pair": {"jitter_rate": 0.8, "gray_rate": 0.2, "blur_rate": 0.5},
    "affine_pair": {"scale": (0.5, 1.5)},
}
IMAGES, HEIGHT, WIDTH, QUALITY = 64, 375, 500, 90
# Batches of a training run that are timed together, without steps.
DATA_BATCHES = 4
# More steps than are ever taken.
_ENDLESS = 2**40


def run(
    *,
    networks,
    methods,
    size=None,
    batch=8,
    precision=("float32",),
    repeats=3,
):
    """Measures the views, then what training runs wait for them.

    Args:
      networks: dict, name -> `config.network`, of the training runs.
      methods: dict, name -> `config.method`, of the training runs.
      size: side of the crops, pixels; None: 321, 512 and 800, and 321 in the
        training runs.
      batch: images in a batch; a training step has as many unlabeled ones and
        half as many labeled ones.
      precision: Keras policies of the training runs.
      repeats: times that each case is timed.

    Yields:
      Records.
    """
    crops = CROPS if size is None else (size,)
    with tempfile.TemporaryDirectory() as folder:
        write(folder)
        ways = (*SOURCES, FILLED)
        for crop, view, source in itertools.product(crops, VIEWS, ways):
            shape = (crop, batch, repeats)
            yield {
                "case": f"{view}, {source}",
                "precision": "float32",
                **base.fresh(throughput, folder, view, source, *shape),
            }
        runs = itertools.product(networks, precision, methods)
        for network, policy, name in runs:
            options = (networks[network], methods[name], policy)
            shape = (crops[0], batch, repeats)
            yield {
                "case": f"waiting, {name}",
                "network": network,
                "precision": policy,
                **base.fresh(waiting, folder, *options, *shape),
            }


def throughput(folder, view, source, crop, batch, repeats):
    """A record without its name; to be called in a fresh process."""
    before = base.peak_mib()
    settings = augmentation_of(view, crop)
    if source == FILLED:
        dataset = filled(folder, view, settings.crop, batch)
    else:
        source = pool(folder, source, labeled=view == "plain")
        dataset = stream(source, view, settings, batch)
    rest = rest_batches(batch)
    whole = max(2, IMAGES // 2 // batch)
    bare = whole * batch * 2
    take, take_bare = taker(dataset), taker(bare_decoding(folder))
    times = base.seconds(
        {
            "rest": functools.partial(take, rest),
            "stream": functools.partial(take, whole),
            "bare rest": functools.partial(take_bare, bare),
            "bare": functools.partial(take_bare, bare),
        },
        repeats,
        warm_up=1,
    )
    seconds = [value / (whole * batch) for value in times["stream"]]
    bare_seconds = [value / bare for value in times["bare"]]
    summary = base.summary(seconds)
    return {
        "crop": settings.crop[0],
        **summary,
        "bare_seconds": base.summary(bare_seconds)["seconds"],
        "images_per_second": 1 / summary["seconds"],
        "ratio": base.ratio(bare_seconds, seconds),
        "waiting_share": 1.0,
        "peak_mib": base.peak_mib() - before,
    }


def waiting(folder, network_options, options, policy, crop, batch, repeats):
    """A record without its name; to be called in a fresh process."""
    before = base.peak_mib()
    keras.mixed_precision.set_global_policy(policy)
    method = step.build_method(network_options, options)
    sizes = {"labeled": max(1, batch // 2), "unlabeled": batch}
    streams = streams_of(method, folder, crop, sizes)
    train = step.Step(method)
    take = taker(tf.data.Dataset.zip(streams))
    example = next(iter(tf.data.Dataset.zip(streams)))
    alone = base.seconds(
        {
            "rest": functools.partial(take, rest_batches(min(sizes.values()))),
            "data": functools.partial(take, DATA_BATCHES),
            "step": functools.partial(train, example),
        },
        repeats,
        warm_up=1,
    )
    del take
    data_seconds = [value / DATA_BATCHES for value in alone["data"]]
    waits, steps = loop(pipelines.together(streams), train, repeats)
    summary = base.summary(steps)
    images = sum(sizes[name] for name in streams)
    return {
        "crop": crop,
        **summary,
        "data_seconds": base.summary(data_seconds)["seconds"],
        "step_seconds": base.summary(alone["step"])["seconds"],
        "images_per_second": images / summary["seconds"],
        "ratio": base.ratio(data_seconds, alone["step"]),
        "waiting_share": sum(waits) / sum(steps),
        "peak_mib": base.peak_mib() - before,
    }


def loop(batches, train, repeats, warm_up=2):
    """Takes steps on a stream.

    Args:
      batches: tf.data.Dataset, or what else can be iterated.
      train: function of a batch that returns a tensor.
      repeats: steps that are timed, after `warm_up` steps.

    Returns:
      Lists of `repeats` seconds: waiting for each batch, and in all.
    """
    batches = iter(batches)
    waits, steps = [], []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - start)
        train(batch).numpy()
        steps.append(time.perf_counter() - start)
    return waits[warm_up:], steps[warm_up:]


def streams_of(method, folder, crop, sizes):
    """dict of tf.data.Dataset, of what the views of a method give.

    Args:
      method: methods.base.Method.
      folder: of `write`.
      crop: side, pixels.
      sizes: dict, "labeled" and "unlabeled" -> images in a batch.

    Raises:
      ValueError: the method needs more than masks and unlabeled images.
    """
    weak = getattr(method, "weak_weight", 0) > 0
    own = method.PSEUDO_LABELED or method.IMAGE_LABELED or weak
    if own or method.SEVERAL_DOMAINS:
        raise ValueError(
            "`methods` must learn from masks and unlabeled images of one data "
            f"set. Received: {type(method).__name__}."
        )
    views = {"labeled": method.LABELED_VIEW, "unlabeled": method.UNLABELED_VIEW}
    # One object for both, as `config.data` is.
    settings = augmentation_of(views["unlabeled"] or views["labeled"], crop)
    return {
        name: stream(
            pool(folder, "files", labeled=name == "labeled"),
            view,
            settings,
            sizes[name],
        )
        for name, view in views.items()
        if view
    }


def augmentation_of(view, crop):
    """data.augmentation.Augmentation of a view, see VIEWS."""
    data = dict(config_lib.base_config().data) | VIEWS[view]
    if view == "overlap_pair":
        crop -= crop % data["overlap_stride"]
    return augmentation.Augmentation.of(data | {"crop": (crop, crop)})


def stream(source, view, settings, batch):
    """Endless `data.pipeline.stream` that reads nothing ahead."""
    return unbuffered(
        pipelines.stream(
            source,
            view=view,
            augmentation=settings,
            batch=batch,
            seed=(0, 0),
            start=0,
            stop=_ENDLESS,
            part=order.Slice(),
        )
    )


def filled(folder, view, crop, batch):
    """tf.data.Dataset of what a view takes in, and crops [batch, h, w, ...]."""

    def example(files):
        first = decode.decode_image(tf.io.read_file(files[0]))[0, 0, 0]
        image = tf.fill([*crop, 3], tf.cast(first, tf.float32))
        if view != "plain":
            return image, tf.identity(image)
        label = tf.io.decode_png(tf.io.read_file(files[1]), channels=1)
        return image, tf.fill(crop, tf.cast(label[0, 0, 0], tf.int32))

    return unbuffered(_mapped(folder, example).batch(batch))


def bare_decoding(folder):
    """tf.data.Dataset of uint8 [H, W, 3]: read and decoded, nothing else."""

    def example(files):
        return tf.io.decode_jpeg(tf.io.read_file(files[0]), channels=3)

    return unbuffered(_mapped(folder, example))


def _mapped(folder, function):
    files = tf.data.Dataset.from_tensor_slices(tf.stack(_paths(folder), 1))
    return files.repeat().map(function, tf.data.AUTOTUNE, deterministic=True)


def rest_batches(batch):
    """Batches that a stream may have made while something else was timed."""
    # tf.data has so many calls of a map under way, also on fewer processors.
    calls = max(16, multiprocessing.cpu_count())
    return -(-calls // batch) + 1


def unbuffered(dataset):
    """Without the buffer that tf.data adds, which would fill between times."""
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


def taker(dataset):
    """A function that takes the next elements; returns their number."""
    iterator = iter(dataset)

    # In a graph, so that Python does not wait for every bare image.
    @tf.function
    def take(count):
        for _ in tf.range(count):
            next(iterator)
        return count

    return lambda count: take(tf.constant(count))


def pool(folder, source, labeled):
    """The generated images, see `data.pipeline.Pool` and `data.records.Pool`.

    Args:
      folder: of `write`.
      source: "files" or "records".
      labeled: whether to read the masks.
    """
    if source == "files":
        images, labels = _paths(folder)
        return pipelines.Pool(images, labels if labeled else ())
    index = record_writer.load(os.path.join(folder, "records"))
    return records.Pool(
        index,
        np.arange(IMAGES),
        labeled=labeled,
        in_memory_bytes=0,
        window_bytes=int(index.length.sum()) // 4,
    )


def write(folder):
    """JPEGs with PNG masks, and records of them."""
    random = np.random.default_rng(0)
    images, labels = _paths(folder)
    palette = datasets.voc_palette(base.NUM_CLASSES)
    for image, label in zip(images, labels):
        jpeg = tf.io.encode_jpeg(photograph(random), quality=QUALITY)
        tf.io.write_file(image, jpeg)
        tf.io.write_file(label, decode.encode_label(mask(random), palette))
    source = record_writer.Source(
        ids=tuple(f"{number:09}" for number in range(IMAGES)),
        images=images,
        labels=labels,
        sizes=np.full([IMAGES, 2], (HEIGHT, WIDTH), np.int32),
        class_counts=np.ones([IMAGES, base.NUM_CLASSES], np.int64),
    )
    record_writer.write(
        os.path.join(folder, "records"), source, shard_bytes=2**30
    )


def photograph(random):
    """uint8 [H, W, 3]: structure of all sizes and mild noise."""
    image = 6 * random.standard_normal([HEIGHT, WIDTH, 1])
    for cell in 2 ** np.arange(1, 8):
        change = 6.5 * _smooth(random, cell, 1) + 2.5 * _smooth(random, cell, 3)
        image = image + cell**0.4 * change
    return np.clip(128 + image, 0, 255).astype(np.uint8)


def mask(random):
    """uint8 [H, W]: regions with smooth borders."""
    height = _smooth(random, 128, 1)[..., 0]
    classes = random.permutation(base.NUM_CLASSES)[:5]
    return classes[np.digitize(height, [-0.6, 0, 0.4, 0.8])].astype(np.uint8)


def _smooth(random, cell, channels):
    """float32 [H, W, channels], noise that changes within `cell` pixels."""
    shape = (HEIGHT // cell + 2, WIDTH // cell + 2, channels)
    coarse = random.standard_normal(shape)
    return tf.image.resize(coarse, (HEIGHT, WIDTH), "bicubic").numpy()


def _paths(folder):
    """Paths of the images, and of their masks."""
    return tuple(
        tuple(os.path.join(folder, f"{i}.{end}") for i in range(IMAGES))
        for end in ("jpg", "png")
    )
