# SPDX-License-Identifier: Apache-2.0
"""The directional contrastive loss: forward, backward, memory.

Each case runs in a process of its own: n anchors, m negatives, 128 channels,
21 classes, all pairs confident. The classes are equally frequent (`equal`), or
one is about as frequent as the background is in PASCAL VOC (`voc`), and what is
of an anchor's own class is no negative. `bare_seconds` are the two products of
all anchors and rows of the bank, in tiles of the same size and precision;
`bare_ratio` is that of the loss over them, which leaves out what it can.
`ratio` is that over a plain formulation, which keeps all [n, m] matrices
(nan where these would be of more than 512 MiB each). `peak_mib` is the peak of
the process above what it held with the inputs in place.
"""

import itertools
import os

import numpy as np
import tensorflow as tf

from tfseg.benchmarks import base
from tfseg.ops import contrastive

COLUMNS = (
    "classes",
    "n",
    "m",
    "seconds",
    "spread",
    "bare_seconds",
    "bare_ratio",
    "ratio",
    "peak_mib",
)
NETWORKS = ()
CHANNELS, CLASSES, TEMPERATURE = 128, 21, 0.1
# Share of the first class; `voc`: an estimate of VOC's background, of pixels.
FREQUENCIES = {"equal": 1 / CLASSES, "voc": 0.73}
_PLAIN_BYTES = 2**29
_TILE = (512, 8192)


def run(
    *,
    anchors=(1082, 4328),
    negatives=(500, 2_000, 19_200, 51_200, 76_800),
    classes=tuple(FREQUENCIES),
    precision=("float32", "mixed_bfloat16"),
    repeats=5,
):
    """Measures one size after the other.

    Args:
      anchors: numbers n; by default of one image and of four.
      negatives: numbers m.
      classes: how frequent they are, names in FREQUENCIES.
      precision: Keras policies, the features are of their compute type.
      repeats: times that each function is timed.

    Yields:
      Records.
    """
    for policy, name, n, m in itertools.product(
        precision, classes, anchors, negatives
    ):
        sizes = (n, m, FREQUENCIES[name])
        yield {
            "case": f"{n} anchors, {m} negatives",
            "precision": policy,
            "classes": name,
            "n": n,
            "m": m,
            **base.fresh(measure, *sizes, policy, repeats),
        }


def measure(n, m, first, policy, repeats):
    """One record without its name; to be called in a fresh process.

    Args:
      n: anchors.
      m: negatives.
      first: share of the first class; the others are equally frequent.
      policy: Keras policy.
      repeats: times that each function is timed.
    """
    dtype = policy.removeprefix("mixed_")
    small = loss_step(*inputs(8, 8, dtype))
    small()
    data = inputs(n, m, dtype, first)
    functions = {"loss": loss_step(*data)}
    # Only the next call lets go of what the inputs were made from.
    small()
    _reset_peak()
    before = base.peak_mib()
    functions["loss"]()
    peak = base.peak_mib() - before
    functions["bare"] = bare_products(data[0].features[0], data[3].features)
    if 4 * n * m <= _PLAIN_BYTES:
        functions["plain"] = plain_step(*data)
    times = base.seconds(functions, repeats, warm_up=1)
    whole = times["loss"]
    plain = times.get("plain", [float("nan")] * repeats)
    return {
        **base.summary(whole),
        "bare_seconds": base.summary(times["bare"])["seconds"],
        "bare_ratio": base.ratio(whole, times["bare"]),
        "ratio": base.ratio(whole, plain),
        "peak_mib": peak,
    }


def inputs(n, m, dtype, first=1 / CLASSES):
    """Two Views of one image, all valid, and a Bank, of noise."""
    # By NumPy: TensorFlow keeps what it used to make them, and the loss would
    # take that before the memory that is measured.
    random = np.random.default_rng(0)
    dtype = tf.as_dtype(dtype).as_numpy_dtype

    def features(*shape):
        noise = random.standard_normal((*shape, CHANNELS), np.float32)
        noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
        return tf.constant(noise.astype(dtype))

    def label(*shape):
        others = random.integers(1, CLASSES, shape, np.int32)
        return tf.constant(others * (random.random(shape) >= first))

    views = [
        contrastive.View(
            features(1, n),
            label(1, n),
            tf.constant(random.uniform(0.8, 1, (1, n)), tf.float32),
        )
        for _ in range(2)
    ]
    valid = tf.fill([1, n], True)
    return *views, valid, contrastive.Bank(features(m), label(m))


def loss_step(first, second, valid, bank):
    """A function: the loss and its gradients."""

    def loss(first, second):
        return contrastive.contrastive_loss(
            first, second, valid, bank, temperature=TEMPERATURE
        )

    return _step(loss, first, second)


def plain_step(first, second, valid, bank):
    """The same by its definition."""

    def loss(first, second):
        active = contrastive.active_anchors(first, second, valid)
        weight = tf.cast(active[:, 0], tf.float32) / valid.shape[1]
        views = ((first, second), (second, first))
        return tf.add_n(
            [
                tf.reduce_sum(weight[i] * _plain_loss(*pair, bank))
                for i, pair in enumerate(views)
            ]
        )

    return _step(loss, first, second)


def _plain_loss(anchors, positives, bank):
    """float32 [n], with all matrices [n, m] kept until the backward pass."""
    anchor = anchors.features[0] / TEMPERATURE
    positive = tf.stop_gradient(positives.features[0])
    own = tf.reduce_sum(anchor * positive, -1, keepdims=True)
    scores = tf.matmul(anchor, bank.features, transpose_b=True)
    scores = tf.cast(scores - own, tf.float32)
    differs = anchors.label[0][:, tf.newaxis] != bank.label
    values = tf.exp(scores) * tf.cast(differs, tf.float32)
    return tf.math.log1p(tf.reduce_sum(values, -1))


def _step(loss, first, second):
    @tf.function
    def step(*features):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            views = first._replace(features=features[0]), second._replace(
                features=features[1]
            )
            value = loss(*views)
        return value, tape.gradient(value, features)

    return lambda: step(first.features, second.features)


def bare_products(anchor, keys):
    """A function: the two products of [n, C] and [m, C], in tiles."""
    rows, columns = _TILE

    def row(start, total):
        query = anchor[start : start + rows]

        def add(place, result):
            key = keys[place : place + columns]
            scores = tf.matmul(query, key, transpose_b=True)
            return place + columns, result + tf.matmul(scores, key)

        _, result = tf.while_loop(
            lambda place, _: place < keys.shape[0],
            add,
            (0, tf.zeros_like(query)),
            parallel_iterations=1,
        )
        return start + rows, total + tf.reduce_sum(result)

    @tf.function
    def products():
        return tf.while_loop(
            lambda start, _: start < anchor.shape[0],
            row,
            (0, tf.zeros([], anchor.dtype)),
            parallel_iterations=1,
        )[1]

    return products


def _reset_peak():
    """Makes the peak of the memory what is held now, where that is possible."""
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.reset_memory_stats("GPU:0")
    elif os.path.exists("/proc/self/clear_refs"):
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
