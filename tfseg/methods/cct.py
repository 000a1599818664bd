# SPDX-License-Identifier: Apache-2.0
"""Cross-consistency training: Ouali et al., CVPR 2020 (arXiv 2003.09005).

Of an unlabeled image the encoder's feature z is perturbed in K ways; an
auxiliary decoder of its own must make of each what the main decoder makes of z
itself:

    L = L_s + ramp * unsup_weight * L_u
    L_u = 1/K * sum over k of  mean over pixels of  d(g(z), g_k(p_k(z)))

Auxiliary decoders and encoder learn from L_u, the main decoder from the labels
alone: its prediction is the target. L_s is the cross-entropy of the pixels
that are not yet learned (`bootstrapped`: those whose true class has a
probability below a threshold that grows from 1/C to `bootstrap_threshold`), or
of all. `decoders` says how many auxiliary decoders there are for each of the
perturbations in `families.feature_perturbations`.

Variants of the supplement: `distance`, `confidence_masking` (only pixels whose
main prediction is above `threshold`), and the variance of some auxiliary
predictions among themselves (`pairwise_weight`).

Works with any network: the last feature of its encoder is perturbed. Decoders
of sub-pixel convolutions (network `cct`) have a faster way,
`ops.sub_pixel_decoders`; of others one goes after the other, `ops.streaming`.

Differs from the official code (CCT) on purpose:
  - distances are sums over the classes; the code divides by their number as
    well (`over_classes=True`), with the same weight;
  - padding does not count;
  - `erase` is a share of the area of an object's box, in the code of each side
    (`erase_by_side=True`), and all objects count, see `ops.components`;
  - F-Drop's range, the ramp of L_u and the length of that of L_s are the
    paper's, see the config; I-VAT's first step is one that float32 resolves,
    see `ops.adversarial`;
  - the pairwise loss reaches the gradient; in the code it is only logged.
"""

import functools

import tensorflow as tf

from tfseg import schedules
from tfseg.callbacks import ramp
from tfseg.methods import base
from tfseg.methods.families import checks, feature_perturbations
from tfseg.ops import (
    cross_consistency,
    draws,
    losses,
    streaming,
    sub_pixel_decoders,
)

_SUPERVISED = ("cross_entropy", "bootstrapped")


class CCT(base.Method):
    """Cross-consistency training.

    Args:
      build_network: () -> network.
      seed: int.
      decoders: mapping, kind of perturbation -> number of decoders.
      perturbations: options of `families.feature_perturbations.Drawer`.
      unsup_weight: factor of L_u.
      ramp: name of a ramp in `schedules.RAMPS`, on `unsup_weight`.
      ramp_steps: its length, steps.
      supervised: "bootstrapped" or "cross_entropy".
      bootstrap_threshold: probability, see the module.
      bootstrap_steps: length of its log ramp, steps.
      distance: see `ops.cross_consistency.distance`.
      over_classes: see the module.
      confidence_masking: see the module.
      threshold: probability in [0, 1].
      pairwise_weight: factor of the pairwise loss beside L_u.
      pairwise_outputs: so many predictions, drawn anew in every step.
    """

    SCALARS = ("loss", "loss_sup", "loss_unsup")
    UNLABELED_VIEW = "plain"

    def __init__(
        self,
        build_network,
        *,
        seed,
        decoders,
        perturbations,
        unsup_weight,
        ramp,
        ramp_steps,
        supervised,
        bootstrap_threshold,
        bootstrap_steps,
        distance,
        over_classes,
        confidence_masking,
        threshold,
        pairwise_weight,
        pairwise_outputs,
    ):
        super().__init__(seed=seed)
        checks.choice("ramp", ramp, schedules.RAMPS)
        checks.choice("supervised", supervised, _SUPERVISED)
        checks.choice("distance", distance, cross_consistency.NAMES)
        for name, value in {
            "unsup_weight": unsup_weight,
            "ramp_steps": ramp_steps,
            "bootstrap_steps": bootstrap_steps,
            "pairwise_weight": pairwise_weight,
        }.items():
            checks.not_negative(name, value)
        checks.positive("pairwise_outputs", pairwise_outputs)
        checks.rate("bootstrap_threshold", bootstrap_threshold)
        checks.rate("threshold", threshold)
        self.kinds = feature_perturbations.kinds(decoders)
        self.draw = feature_perturbations.Drawer.of(perturbations)
        self.student = build_network()
        self.auxiliary = [self.student.new_decoder() for _ in self.kinds]
        self.unsup_weight = unsup_weight
        self.ramp_name, self.ramp_steps = ramp, ramp_steps
        self.ramp = self.add_state("ramp", 0.0, tf.float32)
        self.supervised = supervised
        self.bootstrap_threshold = bootstrap_threshold
        self.bootstrap_steps = bootstrap_steps
        self.distance, self.over_classes = distance, over_classes
        self.threshold = threshold if confidence_masking else None
        self.pairwise_weight = pairwise_weight
        self.pairwise_outputs = pairwise_outputs

    @property
    def trained(self):
        return [
            *self.student.trainable_variables,
            *(v for d in self.auxiliary for v in d.trainable_variables),
        ]

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
            )
        ]

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        with tf.GradientTape() as tape:
            logits = self.student(labeled["image"], training=True)
            loss_sup = self.loss_sup(logits, labeled["label"])
            features = self.student.encoder(unlabeled["image"], training=True)
            with tape.stop_recording():
                main = _logits(self.student.decoder, features)
            loss_unsup = self.loss_unsup(features, main, unlabeled["valid"])
            loss = loss_sup + self.ramp * self.unsup_weight * loss_unsup
        self.minimize(loss, tape, self.trained)
        return self.report(loss=loss, loss_sup=loss_sup, loss_unsup=loss_unsup)

    def loss_sup(self, logits, label):
        """float32 scalar, L_s of float32 [B, H, W, C] and int32 [B, H, W]."""
        if self.supervised == "cross_entropy":
            num_valid = self.mean_over_replicas(losses.num_valid(label))
            return losses.cross_entropy(logits, label, normalizer=num_valid)
        least = 1 / logits.shape[-1]
        growth = schedules.ramp("log", self.step, self.bootstrap_steps)
        threshold = least + growth * (self.bootstrap_threshold - least)
        return losses.bootstrapped_cross_entropy(logits, label, threshold)

    def loss_unsup(self, features, main, valid):
        """L_u, and the pairwise loss times its weight.

        Args:
          features: of the encoder; what the decoders take.
          main: float32 [B, h, w, C], logits of the main decoder.
          valid: bool [B, H, W], False on padding.

        Returns:
          float32 scalar; 0 if no pixel counts.
        """
        target = tf.nn.softmax(main)
        counted = _nearest(valid, main)
        if self.threshold is not None:
            counted &= cross_consistency.confident(target, self.threshold)
        counted = tf.cast(counted, tf.float32)
        drawn = self.draw(
            self.kinds,
            tf.stop_gradient(features[self.student.encoder.top]),
            tf.argmax(main, -1, output_type=tf.int32),
            self,
        )
        num_counted = self.mean_over_replicas(tf.reduce_sum(counted))
        scale = tf.math.divide_no_nan(1.0, num_counted)
        if self.over_classes:
            scale /= target.shape[-1]
        fast = hasattr(self.student.decoder, "sub_pixel_weights")
        if fast and not self.pairwise_weight:
            return self.sub_pixel_loss(features, target, counted, drawn, scale)
        return self.streamed_loss(features, target, counted, drawn, scale)

    def sub_pixel_loss(self, features, target, counted, drawn, scale):
        """L_u of decoders of sub-pixel convolutions.

        Args:
          features: of the encoder.
          target: float32 [B, h, w, C], probabilities.
          counted: float32 [B, h, w] in {0, 1}.
          drawn: a perturbation for each decoder.
          scale: float32 scalar, of a sum over pixels, for the loss.
        """
        mean = sub_pixel_decoders.consistency(
            features[self.student.encoder.top],
            target,
            [decoder.sub_pixel_weights for decoder in self.auxiliary],
            drawn,
            counted,
            relu=self.student.decoder.relu,
            distance=None if self.distance == "mse" else self.of_rows,
        )
        # That of the squares is over the classes as well.
        terms = target if self.distance == "mse" else counted
        return scale * tf.cast(tf.size(terms), tf.float32) * mean

    def of_rows(self, logits, target):
        """float32 [n] of [n, C]: distances."""
        rows = (x[tf.newaxis, :, tf.newaxis] for x in (logits, target))
        distances = cross_consistency.distance(self.distance, *rows)
        return distances[0, :, 0]

    def streamed_loss(self, features, target, counted, drawn, scale):
        """L_u of any decoders, and the pairwise loss; see `sub_pixel_loss`."""
        predict = [
            functools.partial(self.look, decoder, perturbation)
            for decoder, perturbation in zip(self.auxiliary, drawn)
        ]

        def consistency(logits):
            distances = cross_consistency.distance(
                self.distance, logits, target
            )
            return scale * tf.reduce_sum(counted * distances)

        branch_losses = [consistency] * len(predict)
        if self.pairwise_weight:
            branch_losses = self.with_pairwise(
                consistency, predict, features, counted, scale
            )
        owned = [decoder.trainable_variables for decoder in self.auxiliary]
        return streaming.mean(
            list(zip(predict, owned, branch_losses)), features
        )

    def look(self, decoder, perturbation, features, training=True):
        """float32 [B, h, w, C]: what a decoder makes of perturbed features."""
        top = self.student.encoder.top

        def logits(z, training):
            return _logits(decoder, {**features, top: z}, training)

        z = feature_perturbations.perturb(
            features[top],
            perturbation,
            functools.partial(logits, training=False),
        )
        return logits(z, training)

    def with_pairwise(self, consistency, predict, features, counted, scale):
        """A loss for each decoder; that of the chosen ones has two terms.

        The mean over n chosen predictions of (p_k - p)^2, p their mean: as
        the deviations add up to 0, p needs no gradient.

        Args:
          consistency: float32 logits -> float32 scalar.
          predict: of each decoder, features -> logits.
          features, counted, scale: see `sub_pixel_loss`.
        """
        count = min(self.pairwise_outputs, len(predict))
        order = draws.uniform([len(predict)], self.step_seed())
        chosen = tf.math.top_k(order, count).indices
        # In inference mode: the second look moves the moving statistics.
        looks = [functools.partial(f, training=False) for f in predict]
        constant = tf.nest.map_structure(tf.stop_gradient, features)
        mean = tf.add_n(
            [
                tf.nn.softmax(
                    tf.switch_case(
                        chosen[i],
                        [functools.partial(f, constant) for f in looks],
                    )
                )
                for i in range(count)
            ]
        )
        mean = tf.stop_gradient(mean / count)
        weight = self.pairwise_weight * len(predict) / count

        def with_variance(number, logits):
            deviation = tf.square(tf.nn.softmax(logits) - mean)
            is_chosen = tf.reduce_any(chosen == number)
            variance = scale * tf.reduce_sum(
                counted * tf.reduce_sum(deviation, -1)
            )
            return consistency(logits) + weight * tf.where(
                is_chosen, variance, 0.0
            )

        return [
            functools.partial(with_variance, k) for k in range(len(predict))
        ]

    def passes(self, labeled, unlabeled):
        return [("train", labeled), ("train", unlabeled)]


def _logits(decoder, features, training=True):
    """float32 [B, h, w, C], before they are resized to the image."""
    embedding = decoder.embed(features, training=training)
    return decoder.logits(embedding, training=training)


def _nearest(valid, like):
    """bool [B, h, w] of bool [B, H, W], at the size of `like`."""
    valid = tf.cast(valid, tf.float32)[..., tf.newaxis]
    resized = tf.image.resize(valid, tf.shape(like)[1:3], "nearest")
    return resized[..., 0] > 0.5


build = CCT
