# SPDX-License-Identifier: Apache-2.0
"""Mean teacher with box masks, CutMix and Cutout: French et al., BMVC 2020.

A teacher, the moving average of the student, predicts unlabeled images. What
the student sees instead of them is said by `mask`:

  "mix" (CutMix): two images mixed by a box mask; it must predict the
    teacher's two predictions mixed by the same mask (supplement D.2, D.3);
  "cut" (Cutout): an image of which the mask leaves only the boxes; the loss
    counts inside of them (D.2);
  "none": the image itself, in the colors of the strong view.

The loss is that of `families.consistency`, the teacher that of
`families.mean_teacher`.

Differs from the official code (cutmix-semisup-seg) on purpose:
  - partners are the neighbors of one unlabeled batch, never the same image;
    the official two loaders may draw an image as its own partner;
  - the teacher sees both images of all pairs in one pass, so its batch
    statistics come from twice as many images;
  - fixed-aspect boxes of several, and boxes across the border: the bugs are
    off unless `boxes` asks for them, see `ops.masks`.
"""

from tfseg.methods.families import checks, mean_teacher
from tfseg.ops import consistency, masks, mixing

_MASKS = ("mix", "cut", "none")


class MeanTeacher(mean_teacher.MeanTeacher):
    """Mean teacher with box masks.

    Args:
      build_network: () -> network; called twice.
      mask: "mix", "cut" or "none", see the module.
      boxes: mapping, `proportion_range` and `num_boxes` of
        `ops.masks.random_box_masks` and all options of `ops.masks.box_masks`.
      cut_color: RGB in [0, 255] of what "cut" takes away; about 0 to the
        network, as in the official code.
      **shared: those of `families.mean_teacher` and `families.consistency`.
    """

    UNLABELED_VIEW = "weak_strong"
    UNLABELED_GROUP = 2

    def __init__(self, build_network, *, mask, boxes, cut_color, **shared):
        super().__init__(build_network, **shared)
        checks.choice("mask", mask, _MASKS)
        masks.check_boxes(boxes)
        self.mask, self.boxes = mask, dict(boxes)
        self.cut_color = tuple(cut_color)

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        teacher_logits = self.teacher(
            unlabeled["weak"], training=self.teacher_training
        )
        perturbed, teacher_logits, weight = self.perturb(
            unlabeled["strong"],
            teacher_logits,
            self.weigh(unlabeled["valid"]),
        )
        target = self.target(
            consistency.target(self.loss_name, teacher_logits),
            consistency.certainty(teacher_logits),
            weight,
        )
        return self.learn(labeled, perturbed, target)

    def perturb(self, image, teacher_logits, weight):
        """What the student sees, must predict, and what counts of it.

        Args:
          image: float32 [B, H, W, 3].
          teacher_logits: float32 [B, H, W, C].
          weight: float32 [B, H, W].

        Returns:
          The three, changed; of "mix" half as many.
        """
        if self.mask == "none":
            return image, teacher_logits, weight
        if self.mask == "cut":
            mask = self.box_masks(image, self.boxes)
            return (
                mixing.cut(mask, image, self.cut_color),
                teacher_logits,
                weight * mask[..., 0],
            )
        first, second = mixing.pairs(image)
        mask = self.box_masks(first, self.boxes)
        return (
            mixing.mix(mask, first, second),
            mixing.mix(mask, *mixing.pairs(teacher_logits)),
            mixing.mix(mask, *mixing.pairs(weight)),
        )

    def passes(self, labeled, unlabeled):
        perturbed = unlabeled // 2 if self.mask == "mix" else unlabeled
        return [("train", labeled + perturbed), ("forward", unlabeled)]


build = MeanTeacher
