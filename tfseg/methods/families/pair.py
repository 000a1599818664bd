# SPDX-License-Identifier: Apache-2.0
"""What the methods with two networks share: Chen et al., CVPR 2021 (CPS).

The networks have the same form, unless `config.second_network` says otherwise,
begin with the same published encoder weights if there are any, and with other
random weights everywhere else. One optimizer updates both; as each loss
reaches one network alone, this is what two optimizers would do.

`overlap` is the share of pixels on which both agree, of those that at least
one of them takes for something other than `background` (Figure 7), on the
labeled images, the unlabeled ones and all.
"""

import tensorflow as tf

from tfseg.methods.families import supervision
from tfseg.ops import pseudo_labels


class Pair(supervision.PseudoSupervision):
    """Base of the methods; a subclass writes `train_step`.

    Args:
      build_network: (place) -> network; called with 0 and 1.
      background: class that `overlap` leaves out; -1 = none.
      **shared: those of `families.supervision`.
    """

    SCALARS = (
        "loss",
        "loss_sup",
        "loss_unsup",
        "overlap_labeled",
        "overlap_unlabeled",
        "overlap",
    )
    NETWORKS = ("network1", "network2")

    def __init__(self, build_network, *, background, **shared):
        super().__init__(**shared)
        self.network1 = build_network(0)
        self.network2 = build_network(1)
        self.background = None if background < 0 else background

    @property
    def trained(self):
        return [
            *self.network1.trainable_variables,
            *self.network2.trainable_variables,
        ]

    def predict_all(self, labeled, unlabeled):
        """[logits of labeled, of unlabeled images] of network 1 and of 2."""
        return [
            self.predict_both(network, labeled, unlabeled)
            for network in self.networks.values()
        ]

    def loss_sup_of_both(self, logits1, logits2, label, num_valid):
        """float32 scalar, L_s: `loss_sup` of both networks."""
        return self.loss_sup(logits1, label, num_valid) + self.loss_sup(
            logits2, label, num_valid
        )

    def report_with_overlap(self, labeled, unlabeled, **values):
        """`report`, and on how much the networks agree.

        Args:
          labeled: both networks' pseudo labels of labeled images.
          unlabeled: the same of unlabeled ones.
          **values: the other scalars.
        """
        counts = self.mean_over_replicas(
            tf.stack(
                [
                    pseudo_labels.agreement(*pair, background=self.background)
                    for pair in (labeled, unlabeled)
                ]
            )
        )
        agree, counted = tf.unstack(counts, axis=-1)
        shares = tf.math.divide_no_nan(agree, counted)
        return self.report(
            overlap_labeled=shares[0],
            overlap_unlabeled=shares[1],
            overlap=tf.math.divide_no_nan(
                tf.reduce_sum(agree), tf.reduce_sum(counted)
            ),
            **values,
        )
