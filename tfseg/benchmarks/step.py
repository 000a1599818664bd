# SPDX-License-Identifier: Apache-2.0
"""What a training step costs beyond the passes that its method needs.

Each case runs in a process of its own. `seconds` is a whole step with its
callbacks (ramp, teacher), on a batch that is in memory; `bare_seconds` the sum
of the method's `passes`, each measured alone and in turn with the step;
`ratio`, the overhead, is the first over the second. A bare "train" pass is
forward, backward and an update by the same optimizer; a bare "forward" one is
in inference mode. `peak_mib` is the peak of the process above what it had
before it built the networks, after the step.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg import config as config_lib
from tfseg import lookup
from tfseg import strategy as strategies
from tfseg.benchmarks import base
from tfseg.data import augmentation

COLUMNS = (
    "labeled",
    "unlabeled",
    "seconds",
    "spread",
    "bare_seconds",
    "ratio",
    "images_per_second",
    "peak_mib",
)
NETWORKS = ("deeplab_v3_plus",)
# Of methods that learn from several data sets.
_DOMAINS = ("first", "second")


def run(
    *, networks, methods, size=256, batch=4, precision=("float32",), repeats=5
):
    """Measures methods one after the other.

    Args:
      networks: dict, name -> `config.network`.
      methods: dict, name -> `config.method`.
      size: side of the crops, pixels.
      batch: labeled images in a step; there are twice as many unlabeled ones.
      precision: Keras policies.
      repeats: times that a step is timed.

    Yields:
      Records.
    """
    for network, network_options in networks.items():
        for policy in precision:
            for name, options in methods.items():
                result = base.fresh(
                    measure,
                    network_options,
                    options,
                    size,
                    batch,
                    policy,
                    repeats,
                )
                yield {
                    "case": name,
                    "network": network,
                    "precision": policy,
                    "size": size,
                    "labeled": batch,
                    "unlabeled": 2 * batch,
                    **result,
                }


def measure(network_options, options, size, batch, policy, repeats):
    """One record without its name; to be called in a fresh process."""
    lookup.module("networks", network_options["name"])
    before = base.peak_mib()
    keras.mixed_precision.set_global_policy(policy)
    method = build_method(network_options, options)
    step = training_step(method, examples(method, batch, 2 * batch, size))
    base.seconds({"step": step}, repeats=1)
    peak = base.peak_mib() - before
    # Without the strategy: what the method adds counts, whatever it is.
    network = base.build_network(network_options)
    passes = bare_passes(network, method.passes(batch, 2 * batch), size)
    times = base.seconds({"step": step, **passes}, repeats)
    whole = times.pop("step")
    bare = [sum(seconds) for seconds in zip(*times.values())]
    summary = base.summary(whole)
    images = bool(method.LABELED_VIEW) * batch
    images += bool(method.UNLABELED_VIEW) * 2 * batch
    images *= len(_DOMAINS) if method.SEVERAL_DOMAINS else 1
    return {
        **summary,
        "bare_seconds": base.summary(bare)["seconds"],
        "ratio": base.ratio(whole, bare),
        "images_per_second": images / summary["seconds"],
        "peak_mib": peak,
        "passes": list(passes),
    }


def build_method(network_options, options):
    """A compiled method with networks of random weights, on one replica."""
    options = dict(options)
    leaf = lookup.module("methods", options.pop("name"))

    def builder(place=0):
        del place
        return base.build_network(network_options)

    if leaf.build.SEVERAL_DOMAINS:
        builder = dict.fromkeys(_DOMAINS, builder)
    with strategies.build("mirrored", replicas=1).scope():
        method = leaf.build(builder, seed=0, **options)
        method.compile(base.optimizer())
        method.optimizer.build(method.trained)
    return method


def examples(method, labeled, unlabeled, size):
    """A batch of noise as the method's views give it."""
    options = dict(config_lib.base_config().data)
    settings = augmentation.Augmentation.of(options | {"crop": (size, size)})

    def stack(view, count, label):
        see = lookup.module("data.views", view).view
        rows = []
        for number in range(count):
            image, classes = base.examples(1, size)
            image = tf.cast(image[0], tf.uint8)
            classes = classes[0] if label else None
            rows.append(see(image, classes, tf.constant([0, number]), settings))
        return tf.nest.map_structure(lambda *parts: tf.stack(parts), *rows)

    batch = {}
    weak = getattr(method, "weak_weight", 0) > 0
    if method.LABELED_VIEW:
        batch["labeled"] = stack(method.LABELED_VIEW, labeled, True)
    if method.UNLABELED_VIEW:
        batch["unlabeled"] = stack(
            method.UNLABELED_VIEW, unlabeled, method.PSEUDO_LABELED or weak
        )
    if method.IMAGE_LABELED:
        batch["unlabeled"]["classes"] = tf.ones([unlabeled, base.NUM_CLASSES])
    return dict.fromkeys(_DOMAINS, batch) if method.SEVERAL_DOMAINS else batch


def training_step(method, batch):
    """A function that takes one step of a method, callbacks included."""
    callbacks = method.step_callbacks()
    for callback in callbacks:
        callback.set_model(method)

    @tf.function
    def train():
        return method.distribute_strategy.run(method.train_step, (batch,))

    def step():
        for callback in callbacks:
            callback.on_train_batch_begin(0)
        result = train()
        for callback in callbacks:
            callback.on_train_batch_end(0)
        return result["loss"]

    return step


def bare_passes(network, passes, size):
    """{description: function} of the passes that a method names."""
    kinds = {
        "train": base.training_step,
        "forward": _forward,
        "input": _input,
    }
    functions = {}
    for place, (kind, count) in enumerate(passes):
        name = f"{place}: {kind} {count}"
        functions[name] = kinds[kind](network, *base.examples(count, size))
    return functions


def _forward(network, image, label):
    del label
    return tf.function(lambda: network(image, training=False))


def _input(network, image, label):
    del label

    @tf.function
    def gradient():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(image)
            logits = network(image, training=False)
        return tape.gradient(logits, image)

    return gradient
