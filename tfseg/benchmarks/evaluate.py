# SPDX-License-Identifier: Apache-2.0
"""What prediction costs beyond the passes of the network that it needs.

Each case runs in a process of its own: whole images, sliding windows of half
the side, several scales and flips, and the whole way of an evaluation, from
files of several sizes to the confusion matrix, without the set-up of the input,
which a run makes once for all its validations. `seconds` is all of it,
`bare_seconds` the network alone on noise of the same shapes in the same
batches, in turn with it; `ratio`, the throughput over the bare one, is the
second over the first. `traces` is how often the function of the predictor that
was traced most was, over more than five sizes of images. `peak_mib` is the
peak of the process above what it had before it built the network, without the
bare passes.
"""

import os
import tempfile

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfseg import evaluate, inference, lookup
from tfseg.benchmarks import base
from tfseg.data import pipeline
from tfseg.datasets import base as datasets

COLUMNS = (
    "images",
    "seconds",
    "spread",
    "bare_seconds",
    "ratio",
    "images_per_second",
    "traces",
    "peak_mib",
)
NETWORKS = ("deeplab_v3_plus",)
CASES = ("whole", "windows", "scales", "evaluator")
# Height and width of the evaluator's images, as fractions of the side.
SIZES = ((1, 1), (1, 0.75), (0.75, 1), (0.75, 0.75), (0.5, 1))
IGNORED = 255


def run(*, networks, size=512, batch=1, precision=("float32",), repeats=5):
    """Measures one case after the other.

    Args:
      networks: dict, name -> `config.network`.
      size: longest side of the images, pixels.
      batch: images of one size at a time.
      precision: Keras policies.
      repeats: times that each case is timed.

    Yields:
      Records.
    """
    for network, options in networks.items():
        for policy in precision:
            for case in CASES:
                result = base.fresh(
                    measure, case, options, size, batch, policy, repeats
                )
                yield {
                    "case": f"{network}, {case}",
                    "network": network,
                    "precision": policy,
                    "size": size,
                    "batch": batch,
                    **result,
                }


def measure(case, network_options, size, batch, policy, repeats):
    """One record without its name; to be called in a fresh process."""
    lookup.module("networks", network_options["name"])
    before = base.peak_mib()
    keras.mixed_precision.set_global_policy(policy)
    network = base.build_network(network_options)
    predictor = build_predictor(case, network, size)
    with tempfile.TemporaryDirectory() as folder:
        if case == "evaluator":
            sizes = image_sizes(size)
            whole = evaluation(predictor, write(folder, sizes, batch), batch)
        else:
            sizes = [(size, size)]
            whole = prediction(predictor, size, batch)
        base.seconds({"whole": whole}, repeats=1, warm_up=0)
        peak = base.peak_mib() - before
        shapes = [shown(predictor, batch, *sides) for sides in sizes]
        bare = bare_passes(network, sum(shapes, []))
        times = base.seconds({"whole": whole, "bare": bare}, repeats, warm_up=1)
    images = batch * len(sizes)
    summary = base.summary(times["whole"])
    return {
        **summary,
        "images": images,
        "bare_seconds": base.summary(times["bare"])["seconds"],
        "ratio": base.ratio(times["bare"], times["whole"]),
        "images_per_second": images / summary["seconds"],
        "traces": count_traces(predictor, image_sizes(max(size // 4, 4))),
        "peak_mib": peak,
        "inference": predictor.settings(),
    }


def build_predictor(case, network, size):
    """The predictor of a case for images of this side."""
    options = {
        "windows": {"window": max(1, size // 2), "overlap": 0.5},
        "scales": {"scales": (0.5, 1.0, 1.5), "flip": True},
    }
    return inference.Predictor(network, **options.get(case, {}))


def image_sizes(side):
    """(height, width) of five sizes of images."""
    return [tuple(max(1, int(part * side)) for part in pair) for pair in SIZES]


def prediction(predictor, size, batch):
    """A function that predicts a batch that is in memory."""
    images = tf.cast(base.examples(batch, size)[0], tf.uint8)
    # All of it is waited for, but only one pixel copied.
    return lambda: predictor(images)[0, 0, 0]


def evaluation(predictor, pool, batch):
    """A function that evaluates on files; returns the confusion matrix."""
    info = _info()
    # Once, as a run does that validates again and again.
    batches = pipeline.evaluation_batches(pool, batch=batch)

    def whole():
        result = evaluate.evaluate(predictor, batches, info)
        return tf.constant(result["confusion_matrix"])

    return whole


def write(folder, sizes, batch):
    """Smooth images, JPEG and PNG in turn, and masks, as a pool.

    Args:
      folder: where to.
      sizes: (height, width) pairs.
      batch: images of each size.

    Returns:
      pipeline.Pool.
    """
    random = np.random.default_rng(0)
    images, labels = [], []
    for number, (height, width) in enumerate(sizes * batch):
        coarse = random.integers(0, 256, (4, 4, 3))
        image = tf.image.resize(coarse, (height, width), "bicubic")
        classes = random.integers(0, base.NUM_CLASSES, (4, 4, 1))
        classes[0, 0] = IGNORED
        label = tf.image.resize(classes, (height, width), "nearest")
        kind = ("jpeg", "png")[number % 2]
        images.append(os.path.join(folder, f"{number}.{kind}"))
        labels.append(os.path.join(folder, f"{number}_label.png"))
        encode = getattr(tf.io, f"encode_{kind}")
        image = tf.saturate_cast(image, tf.uint8)
        tf.io.write_file(images[-1], encode(image))
        tf.io.write_file(labels[-1], tf.io.encode_png(tf.cast(label, tf.uint8)))
    return pipeline.Pool(tuple(images), tuple(labels), _info().mask_code())


def shown(predictor, batch, height, width):
    """[(batch, height, width)] of all that a network is shown of images."""
    parts = [(batch, height, width)]
    if predictor.window:
        rows, columns = predictor.starts(height, 0), predictor.starts(width, 1)
        count = batch * len(rows) * len(columns)
        parts = [
            (min(predictor.batch, count - first), *predictor.window)
            for first in range(0, count, predictor.batch)
        ]
    return [
        (number, *(max(1, round(scale * side)) for side in sides))
        for number, *sides in parts
        for scale in predictor.scales
        for _ in range(1 + predictor.flip)
    ]


def bare_passes(network, shapes):
    """A function that shows a network noise of these shapes, in this order."""
    # As in the predictor: one trace, for all sizes.
    spec = tf.TensorSpec([None, None, None, 3])
    forward = tf.function(
        lambda image: network(image, training=False), input_signature=[spec]
    )
    images = {
        shape: tf.random.stateless_uniform([*shape, 3], (0, 0), 0, 255)
        for shape in shapes
    }

    def passes():
        for shape in shapes:
            logits = forward(images[shape])
        return logits[0, 0, 0]

    return passes


def count_traces(predictor, sizes):
    """Most traces of any function of a predictor, after images of sizes."""
    for height, width in sizes:
        predictor(tf.zeros([1, height, width, 3], tf.uint8))
    return max(
        value.experimental_get_tracing_count()
        for value in vars(predictor).values()
        if hasattr(value, "experimental_get_tracing_count")
    )


def _info():
    names = tuple(f"class_{number}" for number in range(base.NUM_CLASSES))
    return datasets.Info("noise", names, datasets.voc_palette(len(names)))
