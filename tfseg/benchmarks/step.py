# SPDX-License-Identifier: Apache-2.0
"""What a training step costs beyond the passes that its method needs.

Each case runs in a process of its own. `seconds` is a whole step with its
callbacks (ramp, teacher), on a batch that is in memory; `bare_seconds` the sum
of the method's `passes`, each measured alone and in turn with the step;
`ratio`, the overhead, is the first over the second. A bare "train" pass is
forward, backward and an update by the same optimizer; a bare "forward" one is
in inference mode. `callbacks_share` is the part of a step that its callbacks
take; `traces` counts how often the step was traced in all. `peak_mib` is the
peak of the process above what it had before it built the networks, after the
step.
"""

import collections
import functools
import itertools

import numpy as np
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
    "callbacks_share",
    "traces",
    "images_per_second",
    "peak_mib",
)
NETWORKS, METHODS = ("deeplab_v3_plus",), ()
# Of methods that learn from several data sets.
_DOMAINS = ("first", "second")


def run(
    *,
    networks,
    methods,
    size=256,
    batch=4,
    precision=("float32",),
    xla=(False,),
    repeats=5,
):
    """Measures methods one after the other.

    Args:
      networks: dict, name -> `config.network`.
      methods: dict, name -> `config.method`.
      size: side of the crops, pixels.
      batch: labeled images in a step; there are twice as many unlabeled ones.
      precision: Keras policies.
      xla: whether XLA compiles the step and the passes; both are possible.
      repeats: times that a step is timed.

    Yields:
      Records.
    """
    cases = itertools.product(networks, precision, xla, methods)
    for network, policy, compiled, name in cases:
        result = base.fresh(
            measure,
            networks[network],
            methods[name],
            size,
            batch,
            policy,
            compiled,
            repeats,
        )
        yield {
            "case": name + compiled * ", XLA",
            "network": network,
            "precision": policy,
            "xla": compiled,
            "size": size,
            "labeled": batch,
            "unlabeled": 2 * batch,
            **result,
        }


def measure(network_options, options, size, batch, policy, xla, repeats):
    """One record without its name; to be called in a fresh process."""
    lookup.module("networks", network_options["name"])
    before = base.peak_mib()
    keras.mixed_precision.set_global_policy(policy)
    method = build_method(network_options, options)
    step = Step(method, xla)
    batches = examples(method, batch, 2 * batch, size)
    whole_step = functools.partial(step, batches)
    base.seconds({"step": whole_step}, repeats=1)
    peak = base.peak_mib() - before
    # Without the strategy: what the method adds counts, whatever it is.
    network = base.build_network(network_options)
    counts = collections.Counter(
        f"{kind} {images}" for kind, images in method.passes(batch, 2 * batch)
    )
    passes = bare_passes(network, counts, size, xla)
    # What comes first in a round follows a pass, as waiting follows a step.
    functions = {
        "callbacks": step.callbacks,
        "step": whole_step,
        "wait": step.wait,
        **passes,
    }
    times = base.seconds(functions, repeats)
    whole, *callbacks = (times[k] for k in ("step", "callbacks", "wait"))
    # To wait is not theirs.
    callbacks = np.maximum(np.subtract(*callbacks), 0)
    bare = sum(count * np.array(times[name]) for name, count in counts.items())
    summary = base.summary(whole)
    images = bool(method.LABELED_VIEW) * batch
    images += bool(method.UNLABELED_VIEW) * 2 * batch
    images *= len(_DOMAINS) if method.SEVERAL_DOMAINS else 1
    return {
        **summary,
        "bare_seconds": base.summary(bare)["seconds"],
        "ratio": base.ratio(whole, bare),
        "callbacks_share": base.ratio(callbacks, whole),
        "traces": step.train.experimental_get_tracing_count(),
        "images_per_second": images / summary["seconds"],
        "peak_mib": peak,
        "passes": counts,
    }


def build_method(network_options, options, strategy=None):
    """A compiled method with networks of random weights.

    Args:
      network_options: `config.network`.
      options: `config.method`.
      strategy: None = one replica.
    """
    options = dict(options)
    leaf = lookup.module("methods", options.pop("name"))

    def builder(place=0):
        del place
        return base.build_network(network_options)

    if leaf.build.SEVERAL_DOMAINS:
        builder = dict.fromkeys(_DOMAINS, builder)
    strategy = strategy or strategies.build("mirrored", replicas=1)
    with strategy.scope():
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


class Step:
    """Takes a step of a method on a batch, and returns its loss.

    Args:
      method: compiled, with a built optimizer.
      xla: whether XLA compiles it.
    """

    def __init__(self, method, xla=False):
        self.method = method
        self._callbacks = method.step_callbacks()
        for callback in self._callbacks:
            callback.set_model(method)
            callback.on_train_begin()
        in_replica = tf.function(method.train_step, jit_compile=xla)
        self.train = tf.function(
            lambda batch: method.distribute_strategy.run(in_replica, (batch,))
        )

    def __call__(self, batch):
        """Takes one step.

        Args:
          batch: see `examples`; of several replicas, distributed values.
        """
        for callback in self._callbacks:
            callback.on_train_batch_begin(0)
        result = self.train(batch)
        for callback in self._callbacks:
            callback.on_train_batch_end(0)
        strategy = self.method.distribute_strategy
        return strategy.experimental_local_results(result["loss"])[0]

    def callbacks(self):
        """What a step does besides the training step; waits for it."""
        for callback in self._callbacks:
            callback.on_train_batch_begin(0)
            callback.on_train_batch_end(0)
        return self.wait()

    def wait(self):
        """Waits for what has been done so far."""
        return self.method.step.read_value()


def bare_passes(network, names, size, xla=False):
    """{name: function} of passes, "KIND IMAGES"."""
    kinds = {
        "train": base.training_step,
        "forward": _forward,
        "input": _input,
        "decoder": _decoder,
        "decoder_input": _decoder_input,
    }
    functions = {}
    for name in names:
        kind, images = name.split()
        image, label = base.examples(int(images), size)
        functions[name] = kinds[kind](network, image, label, xla)
    return functions


def _forward(network, image, label, xla):
    del label
    return tf.function(lambda: network(image, training=False), jit_compile=xla)


def _input(network, image, label, xla):
    del label

    @tf.function(jit_compile=xla)
    def gradient():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(image)
            logits = network(image, training=False)
        return tape.gradient(logits, image)

    return gradient


def _decoder(network, image, label, xla, inputs_only=False):
    del label
    decoder = network.new_decoder()
    features = network.encoder(image)
    top = features[network.encoder.top]
    variables = [] if inputs_only else decoder.trainable_variables
    update = base.optimizer()
    update.build(variables)

    @tf.function(jit_compile=xla)
    def step():
        with tf.GradientTape() as tape:
            tape.watch(top)
            seen = {**features, network.encoder.top: top}
            logits = decoder.logits(decoder.embed(seen, training=True))
            loss = tf.reduce_mean(tf.square(tf.nn.softmax(logits)))
        *gradients, gradient = tape.gradient(loss, [*variables, top])
        update.apply_gradients(zip(gradients, variables))
        return gradient

    return step


def _decoder_input(network, image, label, xla):
    return _decoder(network, image, label, xla, inputs_only=True)
