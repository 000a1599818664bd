# SPDX-License-Identifier: Apache-2.0
"""Mean teacher with CutMix masks: French et al., BMVC 2020.

A teacher, the moving average of the student, labels two unlabeled images; the
student sees the two mixed by a box mask, and must predict the teacher's two
predictions mixed by the same mask (paper, section 3; supplement D.1).

    L = L_sup + ramp * unsup_weight * L_cons
    L_cons = mean over all pixels of  valid * confidence * distance

`distance` sums over classes. `confidence` is by default the share of pixels of
the whole batch whose teacher probability reaches `threshold`, one number for
all pixels, as in the official code.

The teacher's BatchNorm: `teacher_training=True` normalizes by the statistics
of its batch, as the official code does unless BatchNorm is frozen.
`teacher_statistics` says what the callback does with the moving statistics,
which evaluation uses: "averaged" like the weights (official), "copied" from
the student, or "own" (only the teacher's own training-mode passes move them).

Differs from the official code (cutmix-semisup-seg) on purpose:
  - partners are the neighbors of one unlabeled batch, never the same image;
    the official two loaders may draw an image as its own partner;
  - the teacher sees both images of all pairs in one pass, so its batch
    statistics come from twice as many images;
  - padding has weight 0; the official collation gives it 255;
  - fixed-aspect boxes of several, and boxes across the border, see ops.masks;
  - confidence is averaged over all replicas, so that their number does not
    matter.
"""

import tensorflow as tf

from tfseg import schedules
from tfseg.callbacks import moving_average, ramp
from tfseg.methods import base
from tfseg.ops import consistency, losses, masks, mixing, pseudo_labels


class MeanTeacher(base.Method):
    """CutMix mean teacher.

    Args:
      build_network: () -> network; called twice.
      seed: int.
      loss: name in `ops.consistency.DISTANCES`.
      unsup_weight: factor of the consistency loss.
      ramp: name of a ramp in `schedules.RAMPS`, on `unsup_weight`.
      ramp_steps: its length, steps.
      threshold: teacher probability from which a pixel is confident, [0, 1];
        0 = no confidence factor.
      confidence_per_pixel: mask single pixels instead of one batch factor.
      decay: of the teacher, in [0, 1].
      teacher_training: see the module.
      teacher_statistics: "averaged", "copied" or "own", see the module.
      box_proportion: (low, high), share of the image's area in boxes.
      num_boxes: boxes a mask, combined by XOR.
    """

    UNLABELED_VIEW = "weak_strong"
    UNLABELED_GROUP = 2
    SCALARS = ("loss", "loss_sup", "loss_unsup", "confident_rate")
    CLASS_SHARES = ("pseudo_share", "labeled_share")
    DEPLOYED = "teacher"

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
        confidence_per_pixel,
        decay,
        teacher_training,
        teacher_statistics,
        box_proportion,
        num_boxes,
    ):
        super().__init__(seed=seed)
        _check_choices(loss, ramp)
        _check_rates(threshold, decay, box_proportion)
        _check_not_negative(unsup_weight=unsup_weight, ramp_steps=ramp_steps)
        self.student = build_network()
        self.teacher = build_network()
        moving_average.copy(self.student, self.teacher)
        self.loss_name = loss
        self.unsup_weight = unsup_weight
        self.ramp_name, self.ramp_steps = ramp, ramp_steps
        self.ramp = self.add_state("ramp", 0.0, tf.float32)
        self.threshold = threshold
        self.confidence_per_pixel = confidence_per_pixel
        self.decay = decay
        self.teacher_training = teacher_training
        self.teacher_statistics = teacher_statistics
        self.box_proportion, self.num_boxes = box_proportion, num_boxes

    @property
    def networks(self):
        return {"teacher": self.teacher, "student": self.student}

    @property
    def ramps(self):
        return {"ramp": self.ramp}

    def step_callbacks(self):
        return [
            ramp.Ramp(
                self.ramp,
                lambda step: schedules.ramp(
                    self.ramp_name, step, self.ramp_steps
                ),
            ),
            moving_average.MovingAverage(
                self.student,
                self.teacher,
                decay=self.decay,
                statistics=self.teacher_statistics,
            ),
        ]

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        num_valid = self.mean_over_replicas(losses.num_valid(labeled["label"]))
        mask = self.box_masks(unlabeled["valid"])
        mixed = mixing.mix(mask, *mixing.pairs(unlabeled["strong"]))
        valid = mixing.mix(mask, *mixing.pairs(unlabeled["valid"]))
        teacher_logits = self.teacher(
            unlabeled["weak"], training=self.teacher_training
        )
        target = mixing.mix(mask, *mixing.pairs(teacher_logits))
        confident, confidence = self.confidence(target)
        with tf.GradientTape() as tape:
            logits = self.student(labeled["image"], training=True)
            loss_sup = losses.cross_entropy(
                logits, labeled["label"], normalizer=num_valid
            )
            mixed_logits = self.student(mixed, training=True)
            loss_unsup = consistency.consistency(
                consistency.distance(self.loss_name, mixed_logits, target),
                valid,
                confidence,
            )
            loss = loss_sup + self.ramp * self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        return self.report(
            loss=loss,
            loss_sup=loss_sup,
            loss_unsup=loss_unsup,
            confident_rate=tf.reduce_mean(confident),
            pseudo_share=pseudo_labels.class_shares(
                tf.argmax(target, -1),
                valid,
                target.shape[-1],
                self.mean_over_replicas(
                    tf.reduce_sum(tf.cast(valid, tf.float32))
                ),
            ),
            labeled_share=pseudo_labels.class_shares(
                labeled["label"],
                labeled["label"] != 255,
                target.shape[-1],
                num_valid,
            ),
        )

    def box_masks(self, valid):
        """float32 [pairs, H, W, 1], this replica's part of the step's masks."""
        num_masks = self.global_rows(mixing.pairs(valid)[0])
        return self.my_part(
            masks.random_box_masks(
                num_masks,
                self.step_seed(),
                size=valid.shape[1:3],
                proportion_range=self.box_proportion,
                num_boxes=self.num_boxes,
            )
        )

    def confidence(self, logits):
        """Confident pixels, and the factor of the loss that follows.

        Args:
          logits: float32 [B, H, W, C] of the teacher.

        Returns:
          float32 [B, H, W] in {0, 1}, and a scalar or [B, H, W].
        """
        confident = consistency.confident(tf.nn.softmax(logits), self.threshold)
        if self.confidence_per_pixel:
            return confident, confident
        return confident, self.mean_over_replicas(tf.reduce_mean(confident))


def _check_choices(loss, ramp_name):
    choices = {"loss": consistency.DISTANCES, "ramp": schedules.RAMPS}
    for name, value in {"loss": loss, "ramp": ramp_name}.items():
        if value not in choices[name]:
            raise ValueError(
                f"`config.method.{name}` must be one of "
                f"{', '.join(choices[name])}. Received: {value!r}."
            )


def _check_rates(threshold, decay, box_proportion):
    for name, rate in {"threshold": threshold, "decay": decay}.items():
        if not 0 <= rate <= 1:
            raise ValueError(
                f"`config.method.{name}` must be in [0, 1]. Received: {rate}."
            )
    low, high = box_proportion
    if not 0 <= low <= high <= 1:
        raise ValueError(
            "`config.method.box_proportion` must be two increasing numbers "
            f"in [0, 1]. Received: {box_proportion}."
        )


def _check_not_negative(**values):
    for name, value in values.items():
        if value < 0:
            raise ValueError(
                f"`config.method.{name}` must be 0 or more. Received: {value}."
            )


build = MeanTeacher
