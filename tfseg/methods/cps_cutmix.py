# SPDX-License-Identifier: Apache-2.0
"""Cross pseudo supervision with CutMix: Chen et al., CVPR 2021, section 3.

Each network labels two unlabeled images; the two label maps, mixed by a box
mask, supervise the other network on the mixed image:

    L = L_s + unsup_weight * L_cps
    L_cps = mean over pixels of  ce(f1(mix), Y2) + ce(f2(mix), Y1)

With `labeled_term` the labeled images add the L_cps^l of `cps`, which the
official code does not have here and the paper does not exclude. What is common
is in `families.supervision` and `families.pair`.

`pseudo_training=True`: the pseudo labels come from batch statistics, and these
passes move the networks' moving statistics as well (official).

Differs from the official code (TorchSemiSeg) on purpose:
  - the two sources are neighbors of one unlabeled batch, never one image; in
    the official code they are two crops of the same file;
  - they go through a network in one pass, so that batch statistics come from
    twice as many images;
  - padding does not count, see `families.supervision`.
"""

import tensorflow as tf

from tfseg.methods.families import pair, supervision
from tfseg.ops import losses, masks


class CPSCutMix(pair.Pair):
    """Cross pseudo supervision with CutMix.

    Args:
      build_network: (place) -> network; called with 0 and 1.
      boxes: mapping, see `ops.masks.random_box_masks`.
      labeled_term: see the module.
      pseudo_training: see the module.
      **shared: those of `families.pair` and `families.supervision`.
    """

    UNLABELED_GROUP = 2

    def __init__(
        self, build_network, *, boxes, labeled_term, pseudo_training, **shared
    ):
        super().__init__(build_network, **shared)
        masks.check_boxes(boxes)
        self.boxes = dict(boxes)
        self.labeled_term = labeled_term
        self.pseudo_training = pseudo_training

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        label = labeled["label"]
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        mask, mixed, counted = self.cutmix(unlabeled)
        counted_labeled = self.counted(labeled["valid"])
        num_counted = self.num_counted(counted)
        num_labeled = self.num_counted(counted_labeled)
        pseudo1, pseudo2 = (
            self.mixed_pseudo_label(network, unlabeled["image"], mask, counted)
            for network in (self.network1, self.network2)
        )
        with tf.GradientTape() as tape:
            (labeled1, mixed1), (labeled2, mixed2) = self.predict_all(
                labeled["image"], mixed
            )
            loss_sup = self.loss_sup_of_both(
                labeled1, labeled2, label, num_valid
            )
            loss_unsup = losses.cross_entropy(
                mixed1, pseudo2, normalizer=num_counted
            ) + losses.cross_entropy(mixed2, pseudo1, normalizer=num_counted)
            own1 = supervision.pseudo_label(labeled1, counted_labeled)
            own2 = supervision.pseudo_label(labeled2, counted_labeled)
            if self.labeled_term:
                loss_unsup += losses.cross_entropy(
                    labeled1, own2, normalizer=num_labeled
                ) + losses.cross_entropy(labeled2, own1, normalizer=num_labeled)
            loss = loss_sup + self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        return self.report_with_overlap(
            (own1, own2),
            (pseudo1, pseudo2),
            loss=loss,
            loss_sup=loss_sup,
            loss_unsup=loss_unsup,
        )

    def passes(self, labeled, unlabeled):
        train = ("train", labeled + unlabeled // 2)
        return [train, train, ("forward", unlabeled), ("forward", unlabeled)]


build = CPSCutMix
