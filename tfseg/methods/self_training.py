# SPDX-License-Identifier: Apache-2.0
"""Self-training, as Chen et al., CVPR 2021 compare with it (Table 7).

Three stages in one run: a teacher is trained, with any method; it labels the
unlabeled images; then a fresh network is trained on both:

    L = L_s + unsup_weight * L_pseudo
    L_pseudo = mean over pixels of  ce(P, Y)

Y are the teacher's labels, on disk since they were made; they do not change.
Pixels of which the teacher was less sure than `threshold` have none; the paper
keeps all (0). `teacher` holds the options of the teacher's method: supervised
training, or CPS ("Ours + Self-Training"; the paper does not say more of it, so
that here its networks label and a plain one learns). A teacher may itself be
self-trained.

The first two stages are run by `tfseg.train`, which puts the teacher's run
into `teacher/` and the labels into `pseudo_labels/` of the workdir. Images
that have a true label are learned with that alone.

The official code does not have this method. The labels of both kinds are means
of their own here, as the batch has them apart; a batch drawn from the union
would weigh them by their numbers of images.
"""

import tensorflow as tf

from tfseg.methods.families import checks, supervision
from tfseg.ops import losses


class SelfTraining(supervision.Supervision):
    """Learns what a teacher has written.

    Args:
      build_network: () -> network.
      teacher: options of the teacher's method, with its name.
      threshold: probability in [0, 1], see the module.
      **shared: those of `families.supervision.Supervision`.
    """

    SCALARS = ("loss", "loss_sup", "loss_unsup")
    PSEUDO_LABELED = True

    def __init__(self, build_network, *, teacher, threshold, **shared):
        super().__init__(**shared)
        # The rest of these two is the work of `tfseg.train`.
        del teacher
        checks.rate("threshold", threshold)
        self.student = build_network()

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        label, pseudo = labeled["label"], unlabeled["label"]
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        num_pseudo = self.mean_over_replicas(losses.num_valid(pseudo))
        with tf.GradientTape() as tape:
            logits, unlabeled_logits = self.predict_both(
                self.student, labeled["image"], unlabeled["image"]
            )
            loss_sup = self.loss_sup(logits, label, num_valid)
            loss_unsup = losses.cross_entropy(
                unlabeled_logits, pseudo, normalizer=num_pseudo
            )
            loss = loss_sup + self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        return self.report(loss=loss, loss_sup=loss_sup, loss_unsup=loss_unsup)

    def passes(self, labeled, unlabeled):
        return [("train", labeled + unlabeled)]


build = SelfTraining
