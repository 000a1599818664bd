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

from tfseg.methods.families import consistency


class PiModel(consistency.Consistency):
    """The student as its own teacher.

    Args:
      build_network: () -> network; called once.
      **shared: those of `families.consistency`.
    """

    UNLABELED_VIEW = "affine_pair"

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        own_logits = self.student(
            unlabeled["teacher"], training=self.teacher_training
        )
        target = self.warped_target(own_logits, unlabeled)
        return self.learn(labeled, unlabeled["student"], target)

    def passes(self, labeled, unlabeled):
        return [("train", labeled + unlabeled), ("forward", unlabeled)]


build = PiModel
