# SPDX-License-Identifier: Apache-2.0
"""CCT's auxiliary decoders, each kind and all thirty, against the main one.

Every case is the mean squared difference of probabilities, forward, backward
to the features and to all variables. The main decoder is the Keras one. "one
by one" means Keras decoders on perturbed copies of the features, all on one
tape, as in the official code; the others are `ops.sub_pixel_decoders`, and
"any decoders, streamed" is `ops.streaming` of the Keras ones. Masks, factors
and noise are given: drawing them is not measured. Masks of pixels leave 70 %
of them. `seconds` is of a process in which the main decoder takes turns,
`ratio` the time over that one's.
Memory is that of a process of its own: `graph_mib` what the first call on
features of one position adds, `peak_mib` what the features then add to it.
"""

import functools

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfseg.benchmarks import base
from tfseg.networks import cct
from tfseg.ops import adversarial, consistency, streaming
from tfseg.ops import sub_pixel_decoders as sub_pixels

COLUMNS = (
    "height",
    "width",
    "decoders",
    "seconds",
    "spread",
    "ratio",
    "peak_mib",
    "graph_mib",
)
NETWORKS = ()
CHANNELS = 512
STRIDE = 8
# Image sizes of Table 10 of the supplement, besides `size`.
TABLE = ((96, 96), (256, 128))
KINDS = {
    "I-VAT": 2,
    "DropOut": 6,
    "G-Cutout": 6,
    "Con-Msk": 2,
    "Obj-Msk": 2,
    "F-Drop": 6,
    "F-Noise": 6,
}
MAIN = "main decoder"
ALL = "all thirty"
# Part of the numbers in KINDS; for memory, which must not grow with them.
AMOUNTS = {"half of them": 0.5, ALL: 1, "twice as many": 2}
NAIVE = ", one by one"
STREAMED = ", any decoders, streamed"


def run(*, size=None, batch=2, precision=("float32",), repeats=5):
    """Measures one case after the other.

    Args:
      size: side of the images, pixels, a multiple of 8; None: 256, then the
        sizes of the paper's Table 10.
      batch: images.
      precision: Keras policies; the features have their compute dtype.
      repeats: times that each case is timed.

    Yields:
      Records.

    Raises:
      ValueError: if `size` is no multiple of 8.
    """
    if size is not None and size % STRIDE:
        raise ValueError(
            f"`size` must be a multiple of {STRIDE}. Received: size={size}."
        )
    sizes = [(256, 256), *TABLE] if size is None else [(size, size)]
    for policy in precision:
        for image_size in sizes:
            shape = (batch, *(side // STRIDE for side in image_size), CHANNELS)
            for case in cases():
                yield {
                    "case": case,
                    "precision": policy,
                    "height": image_size[0],
                    "width": image_size[1],
                    "batch": batch,
                    "decoders": len(kinds(case)),
                    **base.fresh(time, case, shape, policy, repeats),
                    **base.fresh(memory, case, shape, policy),
                }


def cases():
    """Names of all cases."""
    names = [*KINDS, ALL]
    return [
        MAIN,
        *(name + way for name in names for way in (NAIVE, "")),
        ALL + STREAMED,
        *(name for name in AMOUNTS if name != ALL),
    ]


def kinds(case):
    """Kinds of the auxiliary decoders of a case, in the official order."""
    name = case.partition(",")[0]
    if name not in AMOUNTS:
        return [name]
    amounts = {k: int(AMOUNTS[name] * count) for k, count in KINDS.items()}
    return [kind for kind, amount in amounts.items() for _ in range(amount)]


def time(case, shape, policy, repeats):
    """Seconds and ratio; to be called in a fresh process."""
    inputs = examples(shape, policy)
    functions = {
        name: functools.partial(
            step(name, shape[-1]), *inputs, drawn(name, shape)
        )
        for name in dict.fromkeys((MAIN, case))
    }
    times = base.seconds(functions, repeats)
    return {
        **base.summary(times[case]),
        "ratio": base.ratio(times[case], times[MAIN]),
    }


def memory(case, shape, policy):
    """What a call adds, MiB; to be called in a fresh process."""
    batch, *_, channels = shape
    inputs, small = (
        [*examples(shape, policy), drawn(case, shape)]
        for shape in (shape, (batch, 1, 1, channels))
    )
    # What a first operation sets up is not the case's.
    step(MAIN, channels)(*small[:2], drawn(MAIN, shape))
    before = base.new_peak_mib()
    either = tf.nest.map_structure(_either, inputs, small)
    compute = step(case, channels).get_concrete_function(*either)
    compute(*small)
    graph = base.new_peak_mib()
    compute(*inputs)
    return {
        "graph_mib": graph - before,
        "peak_mib": base.peak_mib() - graph,
    }


def _either(tensor, other):
    """tf.TensorSpec of both."""
    sides = zip(tensor.shape, other.shape)
    return tf.TensorSpec(
        [a if a == b else None for a, b in sides], tensor.dtype
    )


def examples(shape, policy):
    """Features, and the main decoder's probabilities."""
    keras.mixed_precision.set_global_policy(policy)
    random = np.random.default_rng(0)
    features = np.maximum(random.standard_normal(shape, np.float32), 0)
    dtype = keras.mixed_precision.global_policy().compute_dtype
    batch, height, width, _ = shape
    full = (batch, STRIDE * height, STRIDE * width, base.NUM_CLASSES)
    logits = 2 * random.standard_normal(full, np.float32)
    return tf.cast(features, dtype), tf.nn.softmax(logits)


def step(case, channels):
    """A function that computes loss and gradients of a case.

    Args:
      case: one of `cases`.
      channels: of the features.

    Returns:
      tf.function: features, target (see `examples`), `drawn` -> loss,
      gradients of the features and of the variables of each decoder.
    """
    wanted = kinds(case)
    decoders = [
        cct.Decoder(base.NUM_CLASSES, "stride8", relu=True) for _ in wanted
    ]
    for decoder in decoders:
        decoder.logits(tf.zeros([1, 1, 1, channels]))
    variables = [decoder.trainable_variables for decoder in decoders]
    loss = _loss(case)

    @tf.function
    def compute(features, target, numbers):
        changes = [_perturbation(*pair) for pair in zip(wanted, numbers)]
        with tf.GradientTape() as tape:
            tape.watch(features)
            value = loss(decoders, changes, features, target)
        return value, tape.gradient(value, [features, variables])

    return compute


def drawn(case, shape):
    """Random numbers of each perturbation of a case, float32 tensors."""
    return [_numbers(kind, shape) for kind in kinds(case)]


def _numbers(kind, shape):
    batch, height, width, channels = shape
    random = np.random.default_rng(1)
    if kind == MAIN:
        return tf.zeros([])
    if kind == "I-VAT":
        return tf.constant(random.standard_normal(shape, np.float32))
    if kind == "DropOut":
        kept = random.random((batch, 1, 1, channels)) > 0.5
        return tf.constant(2 * kept, tf.float32)
    if kind == "F-Noise":
        factor = random.uniform(0.7, 1.3, (height, width, channels))
        return tf.constant(factor, tf.float32)
    mask = random.random((batch, height, width, 1)) > 0.3
    return tf.constant(mask, tf.float32)


def _perturbation(kind, numbers):
    """As `ops.sub_pixel_decoders` takes it; None of the main decoder."""
    if kind == MAIN:
        return None
    if kind == "I-VAT":
        return sub_pixels.Adversarial(lambda: numbers, xi=0.1, radius=2.0)
    if kind == "DropOut":
        return sub_pixels.ChannelMask(numbers)
    if kind == "F-Noise":
        return sub_pixels.Factor(lambda: numbers)
    return sub_pixels.SpatialMask(numbers)


def _loss(case):
    if case.endswith(STREAMED):
        return _streamed
    if case == MAIN or case.endswith(NAIVE):
        return _one_by_one
    return _fast


def _fast(decoders, changes, features, target):
    weights = [decoder.sub_pixel_weights for decoder in decoders]
    return sub_pixels.consistency(features, target, weights, changes)


def _streamed(decoders, changes, features, target):
    difference = functools.partial(_difference, target=target)
    branches = [
        (
            functools.partial(_predict, *pair),
            pair[0].trainable_variables,
            difference,
        )
        for pair in zip(decoders, changes)
    ]
    return streaming.mean(branches, features)


def _one_by_one(decoders, changes, features, target):
    losses = [
        _difference(_predict(decoder, change, features), target)
        for decoder, change in zip(decoders, changes)
    ]
    return tf.add_n(losses) / len(losses)


def _difference(logits, target):
    return tf.reduce_mean(tf.square(tf.nn.softmax(logits) - target))


def _predict(decoder, change, features):
    """Logits of perturbed features."""
    if isinstance(change, sub_pixels.Adversarial):
        clean = tf.stop_gradient(features)
        direction = adversarial.direction(
            decoder.logits,
            clean,
            consistency.target("kld", decoder.logits(clean)),
            change.noise(),
            distance=functools.partial(consistency.distance, "kld"),
            xi=change.xi,
        )
        features += tf.cast(change.radius * direction, features.dtype)
    elif isinstance(change, sub_pixels.Factor):
        features *= tf.cast(change.factor(), features.dtype)
    elif change is not None:
        features *= tf.cast(change.mask, features.dtype)
    return decoder.logits(features)
