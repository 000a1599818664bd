# SPDX-License-Identifier: Apache-2.0
"""What the methods of Chen et al., CVPR 2021 (CPS), share.

    L = L_s + unsup_weight * L_u

L_s is the mean cross-entropy over the labeled pixels of the batch, over all
replicas; or with `supervised="ohem"`, as on Cityscapes, that over the hard
pixels of each replica (`ops.losses.ohem_cross_entropy`), `ohem_min_kept` for
each of its labeled images. With two networks L_s is the sum of both.

Pseudo labels are the classes of the largest logits, and get no gradient.
The unsupervised loss is a mean over the pixels that are not padding, over all
replicas; pixels of labeled images without a label count. The official code
counts padding as well (`count_padding=True`).

`joint_pass=True` gives labeled and unlabeled images to a network in one pass,
see `Method.predict_both`; the official code gives them in two.
"""

import tensorflow as tf

from tfseg.methods import base
from tfseg.methods.families import checks
from tfseg.ops import losses, mixing

_SUPERVISED = ("cross_entropy", "ohem")


class Supervision(base.Method):
    """Base of the methods; a subclass writes `train_step`.

    Args:
      seed: int.
      unsup_weight: lambda of the paper.
      supervised: "cross_entropy" or "ohem".
      ohem_threshold: probability in [0, 1].
      ohem_min_kept: pixels of one labeled image.
      joint_pass: see the module.
    """

    UNLABELED_VIEW = "plain"

    def __init__(
        self,
        *,
        seed,
        unsup_weight,
        supervised,
        ohem_threshold,
        ohem_min_kept,
        joint_pass,
    ):
        super().__init__(seed=seed)
        checks.not_negative("unsup_weight", unsup_weight)
        checks.choice("supervised", supervised, _SUPERVISED)
        checks.rate("ohem_threshold", ohem_threshold)
        checks.not_negative("ohem_min_kept", ohem_min_kept)
        self.unsup_weight = unsup_weight
        self.supervised = supervised
        self.ohem_threshold = ohem_threshold
        self.ohem_min_kept = ohem_min_kept
        self.joint_pass = joint_pass

    def loss_sup(self, logits, label, num_valid):
        """float32 scalar, L_s of one network.

        Args:
          logits: float32 [B, H, W, C].
          label: int32 [B, H, W].
          num_valid: float32 scalar, mean over the replicas of their labeled
            pixels.
        """
        if self.supervised == "cross_entropy":
            return losses.cross_entropy(logits, label, normalizer=num_valid)
        return losses.ohem_cross_entropy(
            logits,
            label,
            threshold=self.ohem_threshold,
            min_kept=self.ohem_min_kept * label.shape[0],
        )


class PseudoSupervision(Supervision):
    """Base of the methods whose pseudo labels come from the same step.

    Args:
      count_padding: see the module.
      **shared: those of `Supervision`.
    """

    def __init__(self, *, count_padding, **shared):
        super().__init__(**shared)
        self.count_padding = count_padding

    def counted(self, valid):
        """bool [B, H, W]: pixels of the unsupervised loss."""
        return tf.ones_like(valid) if self.count_padding else valid

    def num_counted(self, counted):
        """float32 scalar: mean over the replicas of their counted pixels."""
        count = tf.reduce_sum(tf.cast(counted, tf.int32))
        return self.mean_over_replicas(tf.cast(count, tf.float32))

    def cutmix(self, unlabeled):
        """Neighbors of an unlabeled batch, mixed by a box mask.

        Args:
          unlabeled: batch of the view `plain`, B images.

        Returns:
          mask float32 [B / 2, H, W, 1]; mixed float32 [B / 2, H, W, 3];
          counted bool [B / 2, H, W].
        """
        first, second = mixing.pairs(unlabeled["image"])
        mask = self.box_masks(first, self.boxes)
        valid = mixing.mix(mask, *mixing.pairs(unlabeled["valid"]))
        return mask, mixing.mix(mask, first, second), self.counted(valid)

    def mixed_pseudo_label(self, network, image, mask, counted):
        """int32 [B / 2, H, W]: a network's label maps of two images, mixed.

        Args:
          network: which has `pseudo_training` for this pass.
          image: float32 [B, H, W, 3]; neighbors are partners.
          mask: float32 [B / 2, H, W, 1].
          counted: bool [B / 2, H, W]; 255 elsewhere.
        """
        logits = network(image, training=self.pseudo_training)
        return pseudo_label(mixing.mix(mask, *mixing.pairs(logits)), counted)


def pseudo_label(logits, counted):
    """int32 [B, H, W]: class of the largest logit, 255 where not counted."""
    label = tf.argmax(logits, -1, output_type=tf.int32)
    return tf.where(counted, label, 255)
