# SPDX-License-Identifier: Apache-2.0
"""Virtual adversarial training (Miyato et al.), as French et al. use it.

To the student's unlabeled image is added, within a radius, what changes the
prediction most; it must predict what the teacher says of the image without it
(supplement D.1.3):

    g = d/dr of the sum over pixels of distance(f(x + r), f(x)), r small
    target = g_teacher(x),  student sees  x + radius * g / |g|

`direction_network` is f, in inference mode; the gradient is taken once for
each of `iterations`, see `ops.adversarial`. The radius is `radius` times the
magnitude of the image's gradient (`adaptive`, the paper's choice), or times
the root of the number of values. Images are in [0, 255] here and a radius is
in the same unit, so a fixed radius of 1 is one gray level a value. The loss
is that of `families.consistency`, the teacher that of
`families.mean_teacher`.

Differs from the official code (train_seg_semisup_vat_mt.py) on purpose:
  - `xi`, the size of the first random step, is one that float32 and half
    precision resolve; the official 1e-6 * H * W / 1000 is void in float32;
  - the official code leaves `direction_network` in inference mode until the
    end of the epoch, also where it is the teacher that predicts the target,
    or the student that learns (`leak_inference_mode=True`);
  - padding is neither perturbed nor does it count in the direction;
  - the direction has unit length in gray levels, not in units of each
    channel's standard deviation; these are nearly the same.
"""

import functools

import tensorflow as tf

from tfseg.methods.families import checks, mean_teacher
from tfseg.ops import adversarial, consistency

_NETWORKS = ("teacher", "student")


class VAT(mean_teacher.MeanTeacher):
    """Mean teacher with virtual adversarial perturbations of the image.

    Args:
      build_network: () -> network; called twice.
      radius: see the module.
      adaptive: see the module.
      xi: root mean square of the first random step, gray levels.
      iterations: power iterations, at least 1.
      direction_network: "teacher" or "student".
      leak_inference_mode: see the module.
      **shared: those of `families.mean_teacher` and `families.consistency`.
    """

    UNLABELED_VIEW = "weak_strong"

    def __init__(
        self,
        build_network,
        *,
        radius,
        adaptive,
        xi,
        iterations,
        direction_network,
        leak_inference_mode,
        **shared,
    ):
        super().__init__(build_network, **shared)
        checks.not_negative("radius", radius)
        checks.positive("xi", xi)
        checks.positive("iterations", iterations)
        checks.choice("direction_network", direction_network, _NETWORKS)
        self.radius, self.adaptive = radius, adaptive
        self.xi, self.iterations = xi, iterations
        self.direction_network = direction_network
        leaks_into = direction_network if leak_inference_mode else ""
        self.teacher_training &= leaks_into != "teacher"
        self.student_training = leaks_into != "student"

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        teacher_logits = self.teacher(
            unlabeled["weak"], training=self.teacher_training
        )
        perturbed = unlabeled["strong"] + self.perturbation(
            unlabeled, teacher_logits
        )
        target = self.target(
            consistency.target(self.loss_name, teacher_logits),
            consistency.certainty(teacher_logits),
            self.weigh(unlabeled["valid"]),
        )
        return self.learn(
            labeled, perturbed, target, training=self.student_training
        )

    def perturbation(self, unlabeled, teacher_logits):
        """float32 [B, H, W, 3], gray levels, to be added to `strong`."""
        image, valid = unlabeled["strong"], unlabeled["valid"]
        network = getattr(self, self.direction_network)
        predict = functools.partial(network, training=False)
        reference = teacher_logits
        if network is not self.teacher or self.teacher_training:
            reference = predict(unlabeled["weak"])
        direction = adversarial.direction(
            predict,
            image,
            consistency.target(self.loss_name, reference),
            self.noise(image),
            distance=functools.partial(consistency.distance, self.loss_name),
            xi=self.xi,
            iterations=self.iterations,
            valid=valid,
        )
        if self.adaptive:
            radius = self.radius * adversarial.adaptive_radius(image, valid)
        else:
            radius = adversarial.fixed_radius(image, self.radius, valid)
        return tf.reshape(radius, [-1, 1, 1, 1]) * direction

    def noise(self, image):
        """Normal draws, this replica's part of the step's."""
        shape = [self.global_rows(image), *image.shape[1:]]
        return self.my_part(tf.random.stateless_normal(shape, self.step_seed()))

    def passes(self, labeled, unlabeled):
        shares = self.direction_network == "teacher"
        shares = shares and not self.teacher_training
        forward = [("forward", unlabeled)] * (1 if shares else 2)
        direction = [("input", unlabeled)] * self.iterations
        return [("train", labeled + unlabeled), *forward, *direction]


build = VAT
