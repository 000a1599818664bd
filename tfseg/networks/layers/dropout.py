# SPDX-License-Identifier: Apache-2.0
"""Dropout whose random state is part of the checkpoint."""

import tensorflow as tf
from tensorflow import keras


class Dropout(keras.layers.Layer):
    """Zeroes a share of the values while training, and scales up the rest.

    Keras' own layer leaves its generator out of checkpoints, so a resumed run
    would not see the masks that it would have seen without the interruption.

    Args:
      rate: share of the values that become zero, in [0, 1).
    """

    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        # From the global seed. A strategy gives each replica its own stream.
        seed = tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int32)
        self.generator = tf.random.Generator.from_seed(int(seed))

    def call(self, x, training=None):
        if not training:
            return x
        kept = self.generator.uniform(tf.shape(x)) >= self.rate
        return tf.where(kept, x / (1.0 - self.rate), tf.zeros_like(x))
