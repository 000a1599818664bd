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

from tfseg.methods.families import mean_teacher


class StandardAugmentation(mean_teacher.MeanTeacher):
    """Mean teacher with two affine views.

    Args:
      build_network: () -> network; called twice.
      **shared: those of `families.mean_teacher` and `families.consistency`.
    """

    UNLABELED_VIEW = "affine_pair"

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        teacher_logits = self.teacher(
            unlabeled["teacher"], training=self.teacher_training
        )
        target = self.warped_target(teacher_logits, unlabeled)
        return self.learn(labeled, unlabeled["student"], target)

    def passes(self, labeled, unlabeled):
        return [("train", labeled + unlabeled), ("forward", unlabeled)]


build = StandardAugmentation
