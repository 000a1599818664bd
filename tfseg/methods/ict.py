# SPDX-License-Identifier: Apache-2.0
"""Interpolation consistency training (Verma et al.), as French et al. use it.

The student sees a blend of two unlabeled images and must predict the blend of
the teacher's two predictions (supplement D.1.2):

    share ~ Beta(alpha, alpha), one per blended image
    x = (1 - share) x0 + share x1,  target = (1 - share) g(x0) + share g(x1)

Probabilities are blended; for a loss of logits, logits. Confident is a pixel
where the blend of the two largest probabilities reaches the threshold. The
loss is that of `families.consistency`, the teacher that of
`families.mean_teacher`.

Differs from the official code (train_seg_semisup_ict.py) on purpose:
  - partners are the neighbors of one unlabeled batch, as in `mean_teacher`;
  - with confidence="pixel", an image's own confident pixels count; an extra
    axis in the official code (line 343) makes it those of all images of the
    batch, on average (`confidence_across_images=True`).
"""

import tensorflow as tf

from tfseg.methods.families import checks, mean_teacher
from tfseg.ops import consistency, draws, mixing


class ICT(mean_teacher.MeanTeacher):
    """Interpolation consistency training.

    Args:
      build_network: () -> network; called twice.
      alpha: of the Beta distribution, positive.
      confidence_across_images: see the module.
      **shared: those of `families.mean_teacher` and `families.consistency`.
    """

    UNLABELED_VIEW = "weak_strong"
    UNLABELED_GROUP = 2

    def __init__(
        self, build_network, *, alpha, confidence_across_images, **shared
    ):
        super().__init__(build_network, **shared)
        checks.positive("alpha", alpha)
        self.alpha = alpha
        self.confidence_across_images = confidence_across_images

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        share = self.blend_shares(unlabeled["weak"])
        teacher_logits = self.teacher(
            unlabeled["weak"], training=self.teacher_training
        )

        def blend(x):
            return mixing.blend(share, *mixing.pairs(x))

        target = self.target(
            blend(consistency.target(self.loss_name, teacher_logits)),
            blend(consistency.certainty(teacher_logits)),
            blend(self.weigh(unlabeled["valid"])),
        )
        if self.confidence == "pixel" and self.confidence_across_images:
            target = self.average_confidence(target)
        return self.learn(labeled, blend(unlabeled["strong"]), target)

    def blend_shares(self, image):
        """float32 [pairs], this replica's part of the step's draws."""
        count = self.global_rows(mixing.pairs(image)[0])
        return self.my_part(
            draws.beta(count, self.step_seed(), alpha=self.alpha)
        )

    def average_confidence(self, target):
        """The target with each pixel's confidence averaged over the batch."""
        mean = self.mean_over_replicas(tf.reduce_mean(target.confidence, 0))
        return target._replace(
            confidence=tf.ones_like(target.confidence) * mean
        )

    def passes(self, labeled, unlabeled):
        return [("train", labeled + unlabeled // 2), ("forward", unlabeled)]


build = ICT
