# SPDX-License-Identifier: Apache-2.0
"""Static shape checks at the entry of an op: no cost in the graph."""

import tensorflow as tf


def check_rank(name, tensor, rank):
    """Refuses a tensor of another rank, before broadcasting hides it.

    A loss [B] times a weight [B, 1] is silently [B, B]. An unknown static rank
    passes.

    Args:
      name: of the tensor, for the message.
      tensor: anything with a `shape`.
      rank: int, or a tuple of ints of which one must fit.

    Raises:
      ValueError: names the tensor, its shape and the rank it must have.
    """
    shape = tf.TensorShape(tensor.shape)
    ranks = rank if isinstance(rank, tuple) else (rank,)
    if shape.rank is not None and shape.rank not in ranks:
        wanted = " or ".join(str(r) for r in ranks)
        raise ValueError(
            f"`{name}` must have rank {wanted}. Received: rank {shape.rank}, "
            f"shape {shape}."
        )
