# SPDX-License-Identifier: Apache-2.0
"""Single-network pseudo supervision, the rival of CPS in Chen et al. (eq. 9).

A network learns its own classes:

    L = L_s + unsup_weight * (L_sps^l + L_sps^u)
    L_sps = mean over pixels of  ce(P, Y)

What is common is in `families.supervision`. The official code does not have
this method.
"""

import tensorflow as tf

from tfseg.methods.families import supervision
from tfseg.ops import losses


class SPS(supervision.PseudoSupervision):
    """Single-network pseudo supervision.

    Args:
      build_network: () -> network.
      **shared: those of `families.supervision`.
    """

    SCALARS = ("loss", "loss_sup", "loss_unsup")

    def __init__(self, build_network, **shared):
        super().__init__(**shared)
        self.student = build_network()

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        label = labeled["label"]
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        counted = [self.counted(x["valid"]) for x in (labeled, unlabeled)]
        num_counted = [self.num_counted(x) for x in counted]
        with tf.GradientTape() as tape:
            logits = self.predict_both(
                self.student, labeled["image"], unlabeled["image"]
            )
            loss_sup = self.loss_sup(logits[0], label, num_valid)
            loss_unsup = tf.add_n(
                [
                    losses.cross_entropy(
                        z, supervision.pseudo_label(z, mask), normalizer=count
                    )
                    for z, mask, count in zip(logits, counted, num_counted)
                ]
            )
            loss = loss_sup + self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        return self.report(loss=loss, loss_sup=loss_sup, loss_unsup=loss_unsup)

    def passes(self, labeled, unlabeled):
        return [("train", labeled + unlabeled)]


build = SPS
