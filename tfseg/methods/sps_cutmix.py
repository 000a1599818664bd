# SPDX-License-Identifier: Apache-2.0
"""Single-network pseudo supervision with CutMix: Chen et al. 2021, section 4.

A network labels two unlabeled images; the two label maps, mixed by a box mask,
supervise it on the mixed image:

    L = L_s + unsup_weight * L_sps
    L_sps = mean over pixels of  ce(f(mix), Y)

What is common is in `families.supervision`; `pseudo_training` and the sources
are as in `cps_cutmix`. The official code does not have this method.
"""

import tensorflow as tf

from tfseg.methods.families import supervision
from tfseg.ops import losses, masks


class SPSCutMix(supervision.PseudoSupervision):
    """Single-network pseudo supervision with CutMix.

    Args:
      build_network: () -> network.
      boxes: mapping, see `ops.masks.random_box_masks`.
      pseudo_training: see `cps_cutmix`.
      **shared: those of `families.supervision`.
    """

    UNLABELED_GROUP = 2
    SCALARS = ("loss", "loss_sup", "loss_unsup")

    def __init__(self, build_network, *, boxes, pseudo_training, **shared):
        super().__init__(**shared)
        masks.check_boxes(boxes)
        self.student = build_network()
        self.boxes = dict(boxes)
        self.pseudo_training = pseudo_training

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        label = labeled["label"]
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        mask, mixed, counted = self.cutmix(unlabeled)
        num_counted = self.num_counted(counted)
        pseudo = self.mixed_pseudo_label(
            self.student, unlabeled["image"], mask, counted
        )
        with tf.GradientTape() as tape:
            logits, mixed_logits = self.predict_both(
                self.student, labeled["image"], mixed
            )
            loss_sup = self.loss_sup(logits, label, num_valid)
            loss_unsup = losses.cross_entropy(
                mixed_logits, pseudo, normalizer=num_counted
            )
            loss = loss_sup + self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        return self.report(loss=loss, loss_sup=loss_sup, loss_unsup=loss_unsup)

    def passes(self, labeled, unlabeled):
        return [("train", labeled + unlabeled // 2), ("forward", unlabeled)]


build = SPSCutMix
