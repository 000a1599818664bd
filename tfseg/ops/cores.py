# SPDX-License-Identifier: Apache-2.0
"""Independent parts of a computation, each on a core of its own.

TensorFlow divides every operation among the cores. Operations that take less
than a millisecond wait for each other longer than that saves, and what would
stay in the cache of a core moves to another one's.
"""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


def are_ours():
    """Whether the cores can be given work: neither XLA nor a GPU does it."""
    graph = tf.compat.v1.get_default_graph()
    if control_flow_util.GraphOrParentsInXlaContext(graph):
        return False
    return not tf.config.list_logical_devices("GPU")


def map_range(function, count):
    """Results of a function of 0, 1, ..., count - 1, stacked.

    About as many calls are under way as there are cores, and have the memory
    that they need; with XLA or a GPU it is one call after the other. Nothing is
    recorded for gradients.

    Args:
      function: int32 scalar tensor -> list of tensors, each of the same shape
        for all numbers.
      count: int, or int32 scalar tensor.

    Returns:
      List of tensors with a leading axis of `count`.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(
        tf.TensorSpec([], tf.int32)
    )
    if not are_ours():
        return tf.map_fn(
            traced,
            tf.range(count),
            parallel_iterations=1,
            fn_output_signature=[
                tf.TensorSpec(output.shape, output.dtype)
                for output in traced.outputs
            ],
        )
    return tf.raw_ops.MapDefun(
        arguments=[tf.range(count)],
        captured_inputs=traced.captured_inputs,
        output_types=[output.dtype for output in traced.outputs],
        output_shapes=[output.shape for output in traced.outputs],
        f=traced,
        max_intra_op_parallelism=1,
    )
