# SPDX-License-Identifier: Apache-2.0
"""Puts published weights into an encoder."""

import tensorflow as tf


def load(encoder, weights):
    """Loads the weights of an encoder from a file.

    Args:
      encoder: networks.base.Encoder whose variables exist.
      weights: path that `encoder.save_weights` of the same encoder wrote.

    Raises:
      ValueError: no such file; names it.
    """
    if not tf.io.gfile.exists(weights):
        raise ValueError(
            f"`weights` must name an existing file. Received: {weights!r}. "
            "Write one with `network.encoder.save_weights(...)`, or leave "
            "`weights` empty to train from scratch."
        )
    encoder.load_weights(weights)
