# SPDX-License-Identifier: Apache-2.0
"""Cross-consistency training: Ouali et al., CVPR 2020 (arXiv 2003.09005).

    L = L_s + ramp * (unsup_weight * L_u + weak_weight * L_w)
    L_u = 1/K * sum over k of  mean over pixels of  d(g(z), g_k(p_k(z)))
    L_w = 1/K * sum over k of  mean over pixels of  ce(g_k(p_k(z)), Y)

L_s and L_u, their options and what differs from the official code are in
`families.cross_consistency`. L_w is there if `weak_weight` is positive: the
unlabeled images then come with weak labels Y, made of what is known of a whole
image, its classes, before the training (255 = no label). They teach auxiliary
decoders and encoder; the main decoder, which is deployed, knows nothing of
them.

Labels are compared at the size of a decoder's logits, to which they are
reduced by nearest neighbor; the official code resizes all logits to the image.
That is the same where the decoders are of sub-pixel convolutions and the crop
is a multiple of the encoder's stride, as in VOC's configuration. In the
official code L_w has the ramp of L_u, divided by its weight; the same here,
but with `unsup_weight` 0 as well.
"""

import tensorflow as tf

from tfseg.methods.families import checks, cross_consistency


class CCT(cross_consistency.CrossConsistency):
    """Cross-consistency training.

    Args:
      build_network: () -> network.
      weak_weight: factor of L_w; 0 = unlabeled images have no labels.
      **shared: those of `families.cross_consistency`.
    """

    SCALARS = ("loss", "loss_sup", "loss_unsup")

    def __init__(self, build_network, *, weak_weight, **shared):
        checks.not_negative("weak_weight", weak_weight)
        if weak_weight:
            self.SCALARS = (*self.SCALARS, "loss_weak")
        super().__init__(**shared)
        self.weak_weight = weak_weight
        self.student = build_network()
        self.auxiliary = self.new_auxiliary(self.student)

    @property
    def encoder(self):
        return self.student.encoder

    @property
    def trained(self):
        return [
            *self.student.trainable_variables,
            *(v for d in self.auxiliary for v in d.trainable_variables),
        ]

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        weak_label = unlabeled["label"] if self.weak_weight else None
        with tf.GradientTape() as tape:
            logits = self.student(labeled["image"], training=True)
            loss_sup = self.loss_sup(logits, labeled["label"])
            features = self.encoder(unlabeled["image"], training=True)
            with tape.stop_recording():
                main = cross_consistency.predict(self.student.decoder, features)
            # unsup_weight * L_u + weak_weight * L_w
            loss_auxiliary, terms = self.auxiliary_losses(
                self.auxiliary, features, main, unlabeled["valid"], weak_label
            )
            loss = loss_sup + self.ramp * loss_auxiliary
        self.minimize(loss, tape, self.trained)
        return self.report(loss=loss, loss_sup=loss_sup, **terms)

    def passes(self, labeled, unlabeled):
        return [
            ("train", labeled),
            ("train", unlabeled),
            *self.draw.passes(self.kinds, unlabeled),
        ]


build = CCT
