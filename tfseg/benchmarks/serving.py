# SPDX-License-Identifier: Apache-2.0
"""What an exported network costs a program that serves it.

Calls of both signatures take turns with the bare network, a Keras model on
float32 images in memory; `seconds` is the median of a call until its class map
is in the program's memory, `p99_seconds` what one call in a hundred exceeds.
`ratio`, the throughput over the bare one, is `bare_seconds` over `seconds`.
A new Python process without tfseg tells how long a start takes, from its
beginning: until TensorFlow is imported, the model loaded, the first answer
there. `peak_mib` is what the first calls take above a process that has not yet
loaded the model.
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfseg import export
from tfseg.benchmarks import base
from tfseg.datasets import base as datasets

COLUMNS = (
    "calls",
    "seconds",
    "p99_seconds",
    "spread",
    "seconds_per_image",
    "ratio",
    "import_seconds",
    "load_seconds",
    "first_seconds",
    "peak_mib",
)
NETWORKS = ("deeplab_v3_plus",)
BATCHES = (1, 8)
# Name of the argument of each signature.
SIGNATURES = {"serving_default": "images", "from_encoded": "encoded"}
STARTS = 3
# Takes folder of the model, signature, name, type and file of its argument;
# prints when it got how far, in seconds since the epoch.
_SERVER = """
import sys, time
import tensorflow as tf
times = [time.time()]
model = tf.saved_model.load(sys.argv[1])
times.append(time.time())
value = tf.io.parse_tensor(tf.io.read_file(sys.argv[5]), sys.argv[4])
model.signatures[sys.argv[2]](**{sys.argv[3]: value})["class_map"].numpy()
times.append(time.time())
print(*times)
"""


def run(*, networks, size=128, batch=None, precision=("float32",), repeats=100):
    """Measures one network after the other.

    Args:
      networks: dict, name -> `config.network`.
      size: side of the images, pixels.
      batch: images in a call; None: one, then eight.
      precision: Keras policies.
      repeats: calls that are timed.

    Yields:
      Records.
    """
    batches = BATCHES if batch is None else (batch,)
    for network, options in networks.items():
        for policy in precision:
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "export")
                base.fresh(write, options, policy, path)
                for count in batches:
                    for record in _signatures(
                        options, policy, path, size, count, repeats
                    ):
                        yield {
                            "network": network,
                            "precision": policy,
                            "size": size,
                            "batch": count,
                            **record,
                        }


def _signatures(options, policy, path, size, batch, repeats):
    """A record of each signature, for one batch."""
    results = base.fresh(measure, options, policy, path, size, batch, repeats)
    for signature, result in results.items():
        yield {
            "case": f"{signature}, batch {batch}",
            "calls": repeats,
            **result,
            **start(path, signature, size, batch),
            "peak_mib": base.fresh(peak, path, signature, size, batch),
        }


def write(network_options, policy, path):
    """Exports a network; to be called in a fresh process."""
    keras.mixed_precision.set_global_policy(policy)
    names = tuple(f"class_{number}" for number in range(base.NUM_CLASSES))
    info = datasets.Info("noise", names, datasets.voc_palette(len(names)))
    export.export(base.build_network(network_options), info, path)


def measure(network_options, policy, path, size, batch, repeats):
    """{signature: fields}; to be called in a fresh process."""
    keras.mixed_precision.set_global_policy(policy)
    network = base.build_network(network_options)
    model = tf.saved_model.load(path)
    image = tf.cast(argument("serving_default", size, batch), tf.float32)
    forward = tf.function(lambda: network(image, training=False))
    functions = {
        signature: call(model, signature, argument(signature, size, batch))
        for signature in SIGNATURES
    }
    # All of it is waited for, but only one pixel copied.
    functions["bare"] = lambda: forward()[0, 0, 0]
    times = base.seconds(functions, repeats)
    bare = times.pop("bare")
    return {
        signature: latency(calls, bare, batch)
        for signature, calls in times.items()
    }


def latency(calls, bare, batch):
    """Fields of the seconds of calls and of the passes in turn with them."""
    summary = base.summary(calls)
    return {
        **summary,
        "p99_seconds": float(np.percentile(calls, 99)),
        "seconds_per_image": summary["seconds"] / batch,
        "bare_seconds": base.summary(bare)["seconds"],
        "bare_p99_seconds": float(np.percentile(bare, 99)),
        "ratio": base.ratio(bare, calls),
    }


def argument(signature, size, batch):
    """Smooth images as a signature takes them."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (batch, 4, 4, 3))
    images = tf.image.resize(coarse, (size, size), "bicubic")
    images = tf.saturate_cast(images, tf.uint8)
    if signature == "serving_default":
        return images
    return tf.stack([tf.io.encode_jpeg(image) for image in images])


def call(model, signature, value):
    """A function that calls a signature; returns the class map."""
    function = model.signatures[signature]
    named = {SIGNATURES[signature]: value}
    return lambda: function(**named)["class_map"]


def start(path, signature, size, batch):
    """Median seconds from the start of a process until it is as far."""
    value = argument(signature, size, batch)
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "argument")
        tf.io.write_file(file, tf.io.serialize_tensor(value))
        name, dtype = SIGNATURES[signature], value.dtype.name
        command = [sys.executable, "-c", _SERVER]
        command += [path, signature, name, dtype, file]
        times = [_one_start(command) for _ in range(STARTS)]
    names = ("import_seconds", "load_seconds", "first_seconds")
    return dict(zip(names, np.median(times, axis=0).tolist()))


def _one_start(command):
    begin = time.time()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return [float(word) - begin for word in done.stdout.split()]


def peak(path, signature, size, batch):
    """Extra peak of memory, MiB; to be called in a fresh process."""
    value = argument(signature, size, batch)
    before = base.peak_mib()
    function = call(tf.saved_model.load(path), signature, value)
    base.seconds({"calls": function}, repeats=1)
    return base.peak_mib() - before
