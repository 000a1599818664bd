# SPDX-License-Identifier: Apache-2.0
"""Cross pseudo supervision: Chen et al., CVPR 2021.

Two networks see the same image; each learns the other's classes (eq. 4 to 6):

    L = L_s + unsup_weight * (L_cps^l + L_cps^u)
    L_cps = mean over pixels of  ce(P1, Y2) + ce(P2, Y1)

on labeled and on unlabeled images; Table 4 has either alone (`labeled_term`,
`unlabeled_term`). What is common is in `families.supervision` and
`families.pair`.

Differs from the official code (TorchSemiSeg) on purpose:
  - L_cps^l and L_cps^u are means of their own, as in the paper; the code takes
    one mean over both (`concatenate=True`), which with equal batches is half
    of their sum: its 1.5 and 6 are 0.75 and 3 here;
  - padding does not count, see `families.supervision`.
"""

import tensorflow as tf

from tfseg.methods.families import pair, supervision
from tfseg.ops import losses


class CPS(pair.Pair):
    """Cross pseudo supervision.

    Args:
      build_network: (place) -> network; called with 0 and 1.
      labeled_term: whether there is L_cps^l.
      unlabeled_term: whether there is L_cps^u.
      concatenate: see the module.
      **shared: those of `families.pair` and `families.supervision`.
    """

    def __init__(
        self,
        build_network,
        *,
        labeled_term,
        unlabeled_term,
        concatenate,
        **shared,
    ):
        super().__init__(build_network, **shared)
        self.labeled_term, self.unlabeled_term = labeled_term, unlabeled_term
        self.concatenate = concatenate

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        label = labeled["label"]
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        counted = [self.counted(x["valid"]) for x in (labeled, unlabeled)]
        num_counted = [self.num_counted(x) for x in counted]
        with tf.GradientTape() as tape:
            logits1, logits2 = self.predict_all(
                labeled["image"], unlabeled["image"]
            )
            loss_sup = self.loss_sup_of_both(
                logits1[0], logits2[0], label, num_valid
            )
            pseudo1 = [
                supervision.pseudo_label(*x) for x in zip(logits1, counted)
            ]
            pseudo2 = [
                supervision.pseudo_label(*x) for x in zip(logits2, counted)
            ]
            terms = [
                losses.cross_entropy(z1, y2, normalizer=count)
                + losses.cross_entropy(z2, y1, normalizer=count)
                for z1, z2, y1, y2, count in zip(
                    logits1, logits2, pseudo1, pseudo2, num_counted
                )
            ]
            loss_unsup = self.combine(terms, num_counted)
            loss = loss_sup + self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        return self.report_with_overlap(
            (pseudo1[0], pseudo2[0]),
            (pseudo1[1], pseudo2[1]),
            loss=loss,
            loss_sup=loss_sup,
            loss_unsup=loss_unsup,
        )

    def combine(self, terms, num_counted):
        """L_cps of its labeled and its unlabeled term.

        Args:
          terms: two float32 scalars.
          num_counted: of how many pixels each is the mean.
        """
        shares = [1.0, 1.0]
        if self.concatenate:
            whole = tf.add_n(num_counted)
            shares = [tf.math.divide_no_nan(n, whole) for n in num_counted]
        loss = tf.zeros([])
        if self.labeled_term:
            loss += shares[0] * terms[0]
        if self.unlabeled_term:
            loss += shares[1] * terms[1]
        return loss

    def passes(self, labeled, unlabeled):
        return [("train", labeled + unlabeled)] * 2


build = CPS
