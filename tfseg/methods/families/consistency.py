# SPDX-License-Identifier: Apache-2.0
"""What the consistency methods of French et al., BMVC 2020, share.

A target, which gets no gradient, comes from one version of an unlabeled
image; the student must predict it from another.

    L = L_sup + ramp * unsup_weight * L_cons
    L_cons = mean over all pixels of  valid * confidence * distance

`distance` sums over classes (supplement D.4.5). `confidence` is by default
the share of pixels of the whole batch whose largest target probability
reaches `threshold`, one number for all pixels (D.4.4).

`joint_pass=True` gives labeled and perturbed images to the student in one
pass; what that does to BatchNorm says `Method.predict_both`.

Differs from the official code (cutmix-semisup-seg) on purpose:
  - padding has weight 0; the official collation gives some of it 255
    (`padding_weight=255`);
  - confidence is averaged over all replicas, so that their number does not
    matter.
"""

import typing

import tensorflow as tf

from tfseg import schedules
from tfseg.callbacks import ramp
from tfseg.methods import base
from tfseg.methods.families import checks
from tfseg.ops import consistency, losses, pseudo_labels, warp

_CONFIDENCES = ("batch", "pixel", "off")


class Target(typing.NamedTuple):
    """What the student must predict, and how much each pixel counts.

    Attributes:
      values: float32 [B, H, W, C], see `ops.consistency.target`.
      confident: float32 [B, H, W] in {0, 1}.
      confidence: float32 scalar or [B, H, W], factor of the loss.
      weight: float32 [B, H, W], 0 on padding.
    """

    values: tf.Tensor
    confident: tf.Tensor
    confidence: tf.Tensor
    weight: tf.Tensor


class Consistency(base.Method):
    """Base of the methods; a subclass writes `train_step`.

    Args:
      build_network: () -> network.
      seed: int.
      loss: name in `ops.consistency.DISTANCES`.
      unsup_weight: factor of the consistency loss.
      ramp: name of a ramp in `schedules.RAMPS`, on `unsup_weight`.
      ramp_steps: its length, steps.
      threshold: probability from which a pixel is confident, [0, 1].
      confidence: "batch" (share of confident pixels), "pixel" (mask of
        confident pixels) or "off".
      padding_weight: weight of pixels that are padding.
      teacher_training: the target comes from batch statistics and dropout
        (official code, unless BatchNorm is frozen), not from inference mode.
      joint_pass: see the module.
    """

    SCALARS = ("loss", "loss_sup", "loss_unsup", "confident_rate")
    CLASS_SHARES = ("pseudo_share", "labeled_share")

    def __init__(
        self,
        build_network,
        *,
        seed,
        loss,
        unsup_weight,
        ramp,
        ramp_steps,
        threshold,
        confidence,
        padding_weight,
        teacher_training,
        joint_pass,
    ):
        super().__init__(seed=seed)
        checks.choice("loss", loss, consistency.DISTANCES)
        checks.choice("ramp", ramp, schedules.RAMPS)
        checks.choice("confidence", confidence, _CONFIDENCES)
        checks.rate("threshold", threshold)
        checks.not_negative("unsup_weight", unsup_weight)
        checks.not_negative("ramp_steps", ramp_steps)
        checks.not_negative("padding_weight", padding_weight)
        self.student = build_network()
        self.loss_name = loss
        self.unsup_weight = unsup_weight
        self.ramp_name, self.ramp_steps = ramp, ramp_steps
        self.ramp = self.add_state("ramp", 0.0, tf.float32)
        self.threshold, self.confidence = threshold, confidence
        self.padding_weight = padding_weight
        self.teacher_training = teacher_training
        self.joint_pass = joint_pass

    @property
    def ramps(self):
        return {"ramp": self.ramp}

    def step_callbacks(self):
        return [ramp.Ramp(self.ramp, self.ramp_name, self.ramp_steps)]

    def weigh(self, valid):
        """float32 [B, H, W] of bool: 1, and `padding_weight` on padding."""
        return tf.where(valid, 1.0, self.padding_weight)

    def target(self, values, certainty, weight):
        """The Target of a loss.

        Args:
          values: float32 [B, H, W, C], of `ops.consistency.target`.
          certainty: float32 [B, H, W], of `ops.consistency.certainty`.
          weight: float32 [B, H, W], of `weigh`.
        """
        confident = tf.cast(certainty >= self.threshold, tf.float32)
        return Target(values, confident, self._factor(confident), weight)

    def _factor(self, confident):
        if self.confidence == "off":
            return tf.ones([])
        if self.confidence == "pixel":
            return confident
        return self.mean_over_replicas(tf.reduce_mean(confident))

    def warped_target(self, logits, unlabeled):
        """The Target of a view `affine_pair`, in the student's frame.

        Args:
          logits: float32 [B, H, W, C] of the view "teacher".
          unlabeled: the batch of the view.
        """

        def to_student(x):
            return warp.warp(x, unlabeled["matrix"])

        values = to_student(consistency.target(self.loss_name, logits))
        prob = values
        if consistency.compares_logits(self.loss_name):
            prob = to_student(tf.nn.softmax(logits))
        weight = to_student(self.weigh(unlabeled["teacher_valid"]))
        weight *= self.weigh(unlabeled["student_valid"])
        return self.target(values, tf.reduce_max(prob, -1), weight)

    def learn(self, labeled, perturbed, target, training=True):
        """The student's step: L of the module, its gradient, the report.

        Args:
          labeled: the labeled batch.
          perturbed: float32 [B, H, W, 3], what the student sees of the
            unlabeled images.
          target: Target, what it must predict of them.
          training: mode of the student's passes.

        Returns:
          dict, see `report`.
        """
        label = labeled["label"]
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        with tf.GradientTape() as tape:
            logits, perturbed_logits = self.predict_both(
                self.student, labeled["image"], perturbed, training
            )
            loss_sup = losses.cross_entropy(logits, label, normalizer=num_valid)
            loss_unsup = self.loss_unsup(perturbed_logits, target)
            loss = loss_sup + self.ramp * self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        return self.report(
            loss=loss,
            loss_sup=loss_sup,
            loss_unsup=loss_unsup,
            confident_rate=tf.reduce_mean(target.confident),
            **self.shares(label, num_valid, target),
        )

    def loss_unsup(self, logits, target):
        """float32 scalar, L_cons of the module."""
        distance = consistency.distance(self.loss_name, logits, target.values)
        return consistency.consistency(
            distance, target.weight, target.confidence
        )

    def shares(self, label, num_valid, target):
        """{name: float32 [C]}: what labels and targets consist of."""
        counted = target.weight > 0
        num_counted = tf.reduce_sum(tf.cast(counted, tf.float32))
        num_classes = target.values.shape[-1]
        return {
            "pseudo_share": pseudo_labels.class_shares(
                tf.argmax(target.values, -1),
                counted,
                num_classes,
                self.mean_over_replicas(num_counted),
            ),
            "labeled_share": pseudo_labels.class_shares(
                label, label != 255, num_classes, num_valid
            ),
        }
