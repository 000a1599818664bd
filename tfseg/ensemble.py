# SPDX-License-Identifier: Apache-2.0
"""Several networks that answer as one."""

import tensorflow as tf
from tensorflow import keras


class Average(keras.Model):
    """The mean of the probabilities of networks, as logits.

    Args:
      networks: keras.Models, float32 [B, H, W, 3] in [0, 255] -> logits
        [B, H, W, C], of the same classes.
    """

    def __init__(self, networks):
        # Each network casts for itself.
        super().__init__(autocast=False, dtype="float32")
        self.networks = list(networks)
        self.num_classes = self.networks[0].num_classes
        self.built = True

    def call(self, image, training=None):
        """float32 [B, H, W, C]; their softmax is the mean."""
        log_probs = [
            tf.nn.log_softmax(
                tf.cast(network(image, training=training), tf.float32)
            )
            for network in self.networks
        ]
        # By logarithms: a probability may be smaller than any float.
        total = tf.reduce_logsumexp(tf.stack(log_probs), 0)
        return total - tf.math.log(float(len(self.networks)))
