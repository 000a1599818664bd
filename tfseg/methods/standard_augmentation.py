# SPDX-License-Identifier: Apache-2.0
"""Consistency under affine augmentation: French et al., BMVC 2020.

Teacher and student see two affine views of one unlabeled image. The teacher's
prediction is warped into the student's frame by the matrix between the two,
bilinearly, and with it which of its pixels are valid (supplement D.1.1):

    target = warp(g(view_t), matrix),  valid = warp(valid_t, matrix) * valid_s

Probabilities are warped; for a loss of logits, logits. `config.data` draws
the views: scale, rotation, flips, pair_offset and pair_teacher. The loss is
that of `families.consistency`, the teacher that of `families.mean_teacher`.

Differs from the official code (train_seg_semisup_aug_mt.py) on purpose:
  - by default the teacher sees the image neither scaled, rotated nor flipped,
    as in the paper; in its scripts the teacher's view is augmented as well
    (`config.data.pair_teacher`);
  - what lies outside of an image is not reflected into it, see
    `data.geometry`.
"""

import tensorflow as tf

from tfseg.methods.families import mean_teacher
from tfseg.ops import losses


class StandardAugmentation(mean_teacher.MeanTeacher):
    """Mean teacher with two affine views.

    Args:
      build_network: () -> network; called twice.
      **shared: those of `families.mean_teacher` and `families.consistency`.
    """

    UNLABELED_VIEW = "affine_pair"

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        num_valid = self.num_valid(labeled["label"])
        teacher_logits = self.teacher(
            unlabeled["teacher"], training=self.teacher_training
        )
        target = self.warped_target(teacher_logits, unlabeled)
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


build = StandardAugmentation
