# SPDX-License-Identifier: Apache-2.0
"""CCT's auxiliary decoders, each kind and all thirty, against the main one.

Every case is the mean squared difference of probabilities, forward, backward
to the features and to all variables. The main decoder is the Keras one. "one
by one" means Keras decoders on perturbed copies of the features, all on one
tape, as in the official code; the others are `ops.sub_pixel_decoders`, and
"any decoders, streamed" is `ops.streaming` of the Keras ones. Masks, factors
and noise are given: drawing them is not measured. `seconds` is of a process
in which the main decoder takes turns, `ratio` the time over that one's, and
`peak_mib` that of a process of its own, above what it had with its inputs.
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
                    "peak_mib": base.fresh(peak, case, shape, policy),
                }


def cases():
    """Names of all cases."""
    names = [*KINDS, ALL]
    return [
        MAIN,
        *(name + way for name in names for way in (NAIVE, "")),
        ALL + STREAMED,
    ]


def kinds(case):
    """Kinds of the auxiliary decoders of a case, in the official order."""
    name = case.partition(",")[0]
    if name == ALL:
        return [kind for kind, count in KINDS.items() for _ in range(count)]
    return [name]


def time(case, shape, policy, repeats):
    """Seconds and ratio; to be called in a fresh process."""
    inputs = examples(shape, policy)
    main = step(MAIN, *inputs)
    if case == MAIN:
        times = base.seconds({MAIN: main}, repeats)
    else:
        times = base.seconds({MAIN: main, case: step(case, *inputs)}, repeats)
    return {
        **base.summary(times[case]),
        "ratio": base.ratio(times[case], times[MAIN]),
    }


def peak(case, shape, policy):
    """Extra peak of memory, MiB; to be called in a fresh process."""
    inputs = examples(shape, policy)
    # What a first operation sets up is not the case's.
    step(MAIN, *examples((1, 2, 2, 2), policy))()
    run_case = step(case, *inputs)
    # Nor is the graph, which takes more than its few tensors.
    run_case.func.get_concrete_function(*run_case.args)
    before = base.peak_mib()
    base.seconds({case: run_case}, repeats=1)
    return base.peak_mib() - before


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


def step(case, features, target):
    """A function that computes loss and gradients of a case."""
    wanted = kinds(case)
    decoders = [
        cct.Decoder(base.NUM_CLASSES, "stride8", relu=True) for _ in wanted
    ]
    for decoder in decoders:
        decoder.logits(features[:1, :1, :1])
    variables = [decoder.trainable_variables for decoder in decoders]
    if case == MAIN:
        changes = [None]
    else:
        changes = [perturbation(kind, features.shape) for kind in wanted]
    loss = functools.partial(_loss(case), decoders, changes)

    @tf.function
    def compute(features, target):
        with tf.GradientTape() as tape:
            tape.watch(features)
            value = loss(features, target)
        return value, tape.gradient(value, [features, variables])

    return functools.partial(compute, features, target)


def perturbation(kind, shape):
    """Random numbers of a kind, as `ops.sub_pixel_decoders` takes them."""
    batch, height, width, channels = shape
    random = np.random.default_rng(1)
    if kind == "I-VAT":
        noise = random.standard_normal(shape, np.float32)
        return sub_pixels.Adversarial(tf.constant(noise), xi=0.1, radius=2.0)
    if kind == "DropOut":
        kept = random.random((batch, 1, 1, channels)) > 0.5
        return sub_pixels.ChannelMask(tf.constant(2 * kept, tf.float32))
    if kind == "F-Noise":
        factor = random.uniform(0.7, 1.3, (height, width, channels))
        return sub_pixels.Factor(tf.constant(factor, tf.float32))
    mask = random.random((batch, height, width, 1)) > 0.3
    return sub_pixels.SpatialMask(tf.constant(mask, tf.float32))


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
            change.noise,
            distance=functools.partial(consistency.distance, "kld"),
            xi=change.xi,
        )
        features += tf.cast(change.radius * direction, features.dtype)
    elif change is not None:
        features *= tf.cast(change[0], features.dtype)
    return decoder.logits(features)
