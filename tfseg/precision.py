# SPDX-License-Identifier: Apache-2.0
"""What `config.runtime.precision="auto"` stands for on this machine.

A device that multiplies half precision at the speed of float32 only loses time
by it, and so may a small network on one that is faster: so a training step is
timed in both, unless the device rules it out.
"""

import os
import statistics

import tensorflow as tf
from absl import logging
from tensorflow import keras

from tfseg import runs
from tfseg import strategy as strategies
from tfseg.benchmarks import base

_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
# Compute capabilities from which a GPU has units for these types. Source:
# NVIDIA, "Train with mixed precision", and TensorFlow's guide to it.
_GPU_POLICIES = (((8, 0), "mixed_bfloat16"), ((7, 0), "mixed_float16"))
# What is not faster by this is within the noise of the times.
_LEAST_GAIN = 1.1
_PIXELS = 2**17
# How many there are makes no difference.
_CLASSES = 21
_ROUNDS = 3


def resolve(config, workdir, strategy):
    """Replaces "auto" in a config; all workers agree.

    A run that goes on keeps what it began with.

    Args:
      config: ConfigDict, changed in place.
      workdir: folder of the run.
      strategy: tf.distribute.Strategy.
    """
    if config.runtime.precision != "auto":
        return
    policies = ["float32", candidate() or "float32"]
    chosen = 0.0
    if strategies.worker(strategy)[0] == 0:
        path = os.path.join(workdir, "config.json")
        if os.path.exists(path):
            policies[1] = runs.read_json(path)["runtime"]["precision"]
            chosen = 1.0
        elif policies[1] != "float32":
            chosen = float(_is_faster(config, policies))
    chosen = strategies.Agreement(strategy).of_chief(chosen)
    config.runtime.precision = policies[round(chosen)]


def candidate():
    """The policy that this machine may gain by, or None."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "mixed_bfloat16" if _CPU_FLAGS & cpu_flags() else None
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    least = min(d.get("compute_capability", (0, 0)) for d in details)
    return next((name for from_, name in _GPU_POLICIES if least >= from_), None)


def cpu_flags(path="/proc/cpuinfo"):
    """Set of the flags of the CPU; empty where Linux does not tell."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("flags")]
    except OSError:
        return set()
    return set(lines[0].partition(":")[2].split()) if lines else set()


def _is_faster(config, policies):
    """Whether the second of two policies gains; says how long each takes."""
    times = step_seconds(config, policies)
    first, second = (statistics.median(times[name]) for name in policies)
    logging.info(
        "a training step of one network takes %.3f s in %s, %.3f s in %s",
        first,
        policies[0],
        second,
        policies[1],
    )
    return first / second >= _LEAST_GAIN


def step_seconds(config, policies):
    """Times a training step of the first network, in turn.

    Args:
      config: ConfigDict; as many images of its crop are taken as have about
        `_PIXELS` pixels, but no more than its labeled batch.
      policies: names of Keras policies.

    Returns:
      dict, policy -> list of seconds.
    """
    before = keras.mixed_precision.global_policy()
    height, width = config.data.crop
    count = max(1, min(config.train.labeled_batch, _PIXELS // (height * width)))
    shape, bare = [count, height, width], runs.without_weights(config)
    image = tf.random.stateless_uniform([*shape, 3], [0, 0], 0, 255)
    steps = {}
    for name in policies:
        keras.mixed_precision.set_global_policy(name)
        steps[name] = base.training_step(
            runs.build_network(bare, _CLASSES),
            image,
            tf.zeros(shape, tf.int32),
            config.runtime.xla,
        )
    keras.mixed_precision.set_global_policy(before)
    return base.seconds(steps, _ROUNDS, warm_up=1)
