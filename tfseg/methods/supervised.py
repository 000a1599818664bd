# SPDX-License-Identifier: Apache-2.0
"""Training on the labeled images alone: the floor of every comparison."""

import tensorflow as tf

from tfseg.methods import base
from tfseg.ops import losses


class Supervised(base.Method):
    """Mean cross-entropy over the labeled pixels.

    Args:
      build_network: () -> network.
      seed: int.
    """

    def __init__(self, build_network, *, seed):
        super().__init__(seed=seed)
        self.student = build_network()

    def train_step(self, batch):
        image, label = batch["labeled"]["image"], batch["labeled"]["label"]
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        with tf.GradientTape() as tape:
            logits = self.student(image, training=True)
            loss = losses.cross_entropy(logits, label, normalizer=num_valid)
        self.minimize(loss, tape, self.trained)
        return self.report(loss=loss)

    def passes(self, labeled, unlabeled):
        return [("train", labeled)]


build = Supervised
