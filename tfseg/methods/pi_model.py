# SPDX-License-Identifier: Apache-2.0
"""The Pi model (Laine and Aila, ICLR 2017), as French et al. compare with it.

`standard_augmentation` without a teacher: the student's own prediction of one
affine view, which gets no gradient, is the target for the other view
(official train_seg_semisup_aug_mt.py:87-101, `--model=pi`). The loss is that
of `families.consistency`.

Differs from Laine and Aila: no gradient flows through the target, as in the
official code; the squared difference is summed over the classes. With
`teacher_training` both passes move the student's BatchNorm statistics.
"""

import tensorflow as tf

from tfseg.methods.families import consistency
from tfseg.ops import losses


class PiModel(consistency.Consistency):
    """The student as its own teacher.

    Args:
      build_network: () -> network; called once.
      **shared: those of `families.consistency`.
    """

    UNLABELED_VIEW = "affine_pair"

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        num_valid = self.num_valid(labeled["label"])
        own_logits = self.student(
            unlabeled["teacher"], training=self.teacher_training
        )
        target = self.warped_target(own_logits, unlabeled)
        with tf.GradientTape() as tape:
            logits, student_logits = self.predict_both(
                labeled["image"], unlabeled["student"]
            )
            loss_sup = losses.cross_entropy(
                logits, labeled["label"], normalizer=num_valid
            )
            loss_unsup = self.loss_unsup(student_logits, target)
            loss = loss_sup + self.ramp * self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        return self.report_with_shares(
            labeled["label"],
            num_valid,
            target,
            loss=loss,
            loss_sup=loss_sup,
            loss_unsup=loss_unsup,
        )

    def passes(self, labeled, unlabeled):
        return [("train", labeled + unlabeled), ("forward", unlabeled)]


build = PiModel
