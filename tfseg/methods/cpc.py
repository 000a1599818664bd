# SPDX-License-Identifier: Apache-2.0
"""Cross probability consistency, with which Chen et al. compare CPS (eq. 7).

Two networks see the same image; their probabilities must agree:

    L = L_s + unsup_weight * L_cpc
    L_cpc = mean over pixels of  |p1 - p2|^2 + |p2 - p1|^2

over labeled and unlabeled images together, or of either alone as in Table 4
(`labeled_term`, `unlabeled_term`). The gradient flows into both networks; if
each learned from the other's without gradient, it would be half of it. What is
common is in `families.supervision` and `families.pair`. The official code does
not have this method, and the paper gives no weight.
"""

import tensorflow as tf

from tfseg.methods.families import pair, supervision
from tfseg.ops import losses


class CPC(pair.Pair):
    """Cross probability consistency.

    Args:
      build_network: (place) -> network; called with 0 and 1.
      labeled_term: whether labeled images count.
      unlabeled_term: whether unlabeled images count.
      **shared: those of `families.pair` and `families.supervision`.
    """

    def __init__(
        self, build_network, *, labeled_term, unlabeled_term, **shared
    ):
        super().__init__(build_network, **shared)
        if not (labeled_term or unlabeled_term):
            raise ValueError(
                "One of `config.method.labeled_term` and "
                "`config.method.unlabeled_term` must be true."
            )
        self.terms = (labeled_term, unlabeled_term)

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        label = labeled["label"]
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        counted = [self.counted(x["valid"]) for x in (labeled, unlabeled)]
        num_counted = tf.add_n(
            [
                self.num_counted(mask)
                for mask, used in zip(counted, self.terms)
                if used
            ]
        )
        with tf.GradientTape() as tape:
            logits1, logits2 = self.predict_all(
                labeled["image"], unlabeled["image"]
            )
            loss_sup = self.loss_sup_of_both(
                logits1[0], logits2[0], label, num_valid
            )
            total = tf.add_n(
                [
                    sum_of_squares(z1, z2, mask)
                    for z1, z2, mask, used in zip(
                        logits1, logits2, counted, self.terms
                    )
                    if used
                ]
            )
            loss_unsup = 2 * tf.math.divide_no_nan(total, num_counted)
            loss = loss_sup + self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        pseudo1, pseudo2 = (
            [supervision.pseudo_label(*x) for x in zip(logits, counted)]
            for logits in (logits1, logits2)
        )
        return self.report_with_overlap(
            (pseudo1[0], pseudo2[0]),
            (pseudo1[1], pseudo2[1]),
            loss=loss,
            loss_sup=loss_sup,
            loss_unsup=loss_unsup,
        )

    def passes(self, labeled, unlabeled):
        return [("train", labeled + unlabeled)] * 2


def sum_of_squares(logits1, logits2, counted):
    """|p1 - p2|^2, summed over the classes and the counted pixels (eq. 7).

    Args:
      logits1: float32 [B, H, W, C].
      logits2: float32 [B, H, W, C].
      counted: bool [B, H, W].

    Returns:
      float32 scalar.
    """
    difference = tf.nn.softmax(logits1) - tf.nn.softmax(logits2)
    # Selected before the square: NaN on padding does no harm.
    difference = tf.where(counted[..., tf.newaxis], difference, 0.0)
    return tf.reduce_sum(tf.square(difference))


build = CPC
