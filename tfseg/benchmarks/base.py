# SPDX-License-Identifier: Apache-2.0
"""What the suites share: time, memory, a fresh process, the machine.

A suite is a module beside this one, found by its name. It has

  COLUMNS   names of the fields of a record that go into the table
  NETWORKS  where `run` takes networks: the default names, () for all
  METHODS   where it takes methods, or configs of methods: the same
  run(*, ...)  keyword options -> iterator of records, one dict per case with
    `case`, `seconds` (median), `spread` (of the middle half of the times, over
    the median), `ratio`, `peak_mib` and `precision`, and fields of its own
"""

import concurrent.futures
import functools
import importlib.metadata
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfseg import lookup
from tfseg.ops import losses

NUM_CLASSES = 21
# "5" written there makes VmHWM begin anew (man proc_pid_clear_refs).
_PEAK_RESET = "/proc/self/clear_refs"


def seconds(functions, repeats, warm_up=2):
    """Times functions in turn, so that noise of the machine hits all alike.

    Args:
      functions: dict, name -> function without arguments that returns a
        tensor, or a structure of tensors, which is waited for.
      repeats: times that each one is run, after `warm_up` runs.

    Returns:
      dict, name -> list of `repeats` seconds.
    """
    times = {name: [] for name in functions}
    for number in range(warm_up + repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            tf.nest.map_structure(lambda x: x.numpy(), function())
            if number >= warm_up:
                times[name].append(time.perf_counter() - start)
    return times


def summary(times):
    """{"seconds": median, "spread": middle half over the median}."""
    low, middle, high = np.percentile(times, [25, 50, 75])
    return {"seconds": middle, "spread": (high - low) / middle}


def ratio(times, reference):
    """Median over the rounds of one time over another, of `seconds`."""
    return statistics.median(a / b for a, b in zip(times, reference))


def build_network(options, **changes):
    """The network of `config.network`, with random weights."""
    options = {**options, **changes, "weights": ""}
    leaf = lookup.module("networks", options.pop("name"))
    if "weights" not in lookup.options(leaf.build):
        options.pop("weights")
    return leaf.build(num_classes=NUM_CLASSES, **options)


def examples(batch, size):
    """float32 images [batch, size, size, 3] and int32 labels, of noise."""
    random = np.random.default_rng(0)
    image = random.uniform(0, 255, (batch, size, size, 3))
    label = random.integers(0, NUM_CLASSES, (batch, size, size))
    return tf.constant(image, tf.float32), tf.constant(label, tf.int32)


def optimizer():
    """SGD with momentum, and with loss scaling where float16 needs it."""
    result = keras.optimizers.SGD(1e-4, momentum=0.9)
    if keras.mixed_precision.global_policy().name == "mixed_float16":
        result = keras.mixed_precision.LossScaleOptimizer(result)
    return result


def training_step(network, image, label, xla=False):
    """A function that takes one step on the same batch; returns the loss."""
    update = optimizer()
    update.build(network.trainable_variables)

    @tf.function(jit_compile=xla)
    def step():
        with tf.GradientTape() as tape:
            logits = network(image, training=True)
            loss = losses.cross_entropy(logits, label)
        update.minimize(loss, network.trainable_variables, tape=tape)
        return loss

    return step


def peak_mib():
    """Peak of the memory of this process so far (GPU: of the first GPU)."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    try:
        # Not ru_maxrss: that starts with what the parent process had.
        with open("/proc/self/status", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def new_peak_mib():
    """`peak_mib` after it is set to what is in use now (Linux and GPU)."""
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.reset_memory_stats("GPU:0")
    elif os.path.exists(_PEAK_RESET):
        with open(_PEAK_RESET, "w", encoding="ascii") as file:
            file.write("5")
    return peak_mib()


def fresh(function, *args, **options):
    """The result of a function of a module, called in a new process."""
    context = multiprocessing.get_context("spawn")
    # A new function for each case is what TensorFlow would warn of.
    quiet = functools.partial(tf.get_logger().setLevel, "ERROR")
    with concurrent.futures.ProcessPoolExecutor(1, context, quiet) as pool:
        return pool.submit(function, *args, **options).result()


def machine():
    """What a figure depends on: device, threads and versions."""
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = [detail.get("device_name", "GPU") for detail in details]
    return {
        "device": ", ".join(names) or _cpu(),
        "cpus": multiprocessing.cpu_count(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": importlib.metadata.version("keras"),
    }


def _cpu():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            line = next(line for line in file if line.startswith("model name"))
        return line.partition(":")[2].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def append(path, record):
    """Adds a record as one line of JSON."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def row(record, columns):
    """One line of the table: numbers with three digits, at least 10 wide."""
    cells = [f"{_text(record[name]):>{width(name)}}" for name in columns]
    return f"{record['case']:28s} {record['precision']:14s} " + " ".join(cells)


def heading(columns):
    """The line above the rows."""
    cells = [f"{name:>{width(name)}}" for name in columns]
    return f"{'case':28s} {'precision':14s} " + " ".join(cells)


def width(column):
    """Characters of a column."""
    return max(10, len(column))


def _text(value):
    if isinstance(value, str):
        return value
    if not isinstance(value, float):
        return f"{value:,}"
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
