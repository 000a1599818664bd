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
      whole_channels: drop channels of maps [B, H, W, C] as a whole (spatial
        dropout, torch.nn.Dropout2d).
    """

    def __init__(self, rate, whole_channels=False):
        super().__init__()
        self.rate, self.whole_channels = rate, whole_channels
        if rate:
            # From the global seed. A strategy gives each replica a stream.
            seed = tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int32)
            self.generator = tf.random.Generator.from_seed(int(seed))

    def call(self, x, training=None):
        if not training or not self.rate:
            return x
        shape = tf.shape(x)
        if self.whole_channels:
            shape = tf.stack([shape[0], 1, 1, shape[3]])
        kept = self.generator.uniform(shape) >= self.rate
        return tf.where(kept, x / (1.0 - self.rate), tf.zeros_like(x))
