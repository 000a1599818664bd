# SPDX-License-Identifier: Apache-2.0
"""What every network costs: size, multiply-adds, time and memory.

Each case runs in a process of its own. `seconds` is a training step (forward,
backward, SGD with momentum); `forward_seconds` is inference; `ratio` is the
first over the second; `peak_mib` is the peak of the process above what it had
before it built the network, after both.
"""

import math

import tensorflow as tf
from tensorflow import keras

from tfseg import lookup
from tfseg.benchmarks import base

COLUMNS = (
    "parameters",
    "giga_multiply_adds",
    "forward_seconds",
    "seconds",
    "spread",
    "ratio",
    "peak_mib",
)
# Every one that there is a configuration of.
NETWORKS = ()


def run(*, networks, size=512, batch=2, precision=("float32",), repeats=5):
    """Measures networks one after the other.

    Args:
      networks: dict, name of the case -> `config.network`.
      size: side of the images, pixels.
      batch: images in a step.
      precision: Keras policies.
      repeats: times that a step is timed.

    Yields:
      Records; `giga_multiply_adds` is that of one image.
    """
    for name, options in networks.items():
        for policy in precision:
            result = base.fresh(measure, options, size, batch, policy, repeats)
            yield {
                "case": name,
                "precision": policy,
                "size": size,
                "batch": batch,
                **result,
            }


def measure(options, size, batch, policy, repeats):
    """One record without its name; to be called in a fresh process."""
    # All that is imported on the way is not the network's.
    lookup.module("networks", options["name"])
    before = base.peak_mib()
    keras.mixed_precision.set_global_policy(policy)
    network = base.build_network(options)
    image, label = base.examples(batch, size)
    forward = tf.function(lambda: network(image, training=False))
    times = base.seconds({"forward": forward}, repeats)
    times |= base.seconds(
        {"step": base.training_step(network, image, label)}, repeats
    )
    peak = base.peak_mib() - before
    return {
        **base.summary(times["step"]),
        "forward_seconds": base.summary(times["forward"])["seconds"],
        "ratio": base.ratio(times["step"], times["forward"]),
        "peak_mib": peak,
        "parameters": sum(
            math.prod(v.shape) for v in network.trainable_weights
        ),
        "giga_multiply_adds": multiply_adds(options, size) / 1e9,
    }


def multiply_adds(options, size):
    """Those of convolutions and matrix products for one image at inference."""
    keras.mixed_precision.set_global_policy("float32")
    changes = {}
    leaf = lookup.module("networks", options["name"])
    if "dilated_conv" in lookup.options(leaf.build):
        # One operation for each convolution, whose products can be counted.
        changes["dilated_conv"] = "native"
    network = base.build_network(options, **changes)
    spec = tf.TensorSpec([1, size, size, 3])
    return count(tf.function(network).get_concrete_function(spec))


def count(function):
    """Multiply-adds of a concrete function whose shapes are known."""
    return sum(_products(node) for node in function.graph.get_operations())


def _products(operation):
    inputs = [tensor.shape for tensor in operation.inputs]
    if operation.type == "Conv2D":
        return _size(operation) * math.prod(inputs[1][:3])
    if operation.type == "DepthwiseConv2dNative":
        return _size(operation) * math.prod(inputs[1][:2])
    if operation.type in ("MatMul", "BatchMatMulV2"):
        return _size(operation) * inputs[0][-1]
    if operation.type == "Einsum":
        terms = operation.get_attr("equation").decode().split("->")[0]
        lengths = {}
        for term, shape in zip(terms.split(","), inputs):
            lengths |= dict(zip(term, shape))
        return math.prod(lengths.values())
    return 0


def _size(operation):
    tensor = operation.outputs[0]
    for reader in tensor.consumers():
        # A dilated convolution works on a map that was padded and folded.
        if reader.type == "BatchToSpaceND":
            tensor = reader.outputs[0]
    return math.prod(tensor.shape)
