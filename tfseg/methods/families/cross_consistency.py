# SPDX-License-Identifier: Apache-2.0
"""What the methods of Ouali et al., CVPR 2020 (CCT), share.

The encoder's feature z of an unlabeled image is perturbed in K ways; each of K
auxiliary decoders must make of one what the main decoder makes of z itself:

    L_u = 1/K * sum over k of  mean over pixels of  d(g(z), g_k(p_k(z)))

Auxiliary decoders and encoder learn from L_u, the main decoder from the labels
alone: its prediction is the target. `decoders` says how many auxiliary
decoders there are for each of `families.feature_perturbations`.

L_s is the cross-entropy of the pixels that are not yet learned
(`bootstrapped`: those whose true class has a probability below a threshold
that grows from 1/C to `bootstrap_threshold`), or of all.

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
from typing import Any, NamedTuple

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
# What auxiliary decoders learn from, in the order of the weights.
_TERMS = ("loss_unsup", "loss_weak")


class Seen(NamedTuple):
    """What the auxiliary decoders learn from.

    Attributes:
      features: of the encoder; what the decoders take.
      target: float32 [B, h, w, C], probabilities of the main decoder.
      counted: float32 [B, h, w] in {0, 1}, of the pixels of L_u.
      scale: float32 scalar, of a sum over these pixels, for L_u.
      drawn: a perturbation for each decoder.
      seed: int32 [2], of what else is drawn.
      label: int32 [B, h, w], 255 = none; or None.
      num_labeled: float32 scalar, pixels that have one, mean over replicas.
    """

    features: Any
    target: tf.Tensor
    counted: tf.Tensor
    scale: tf.Tensor
    drawn: Any
    seed: tf.Tensor
    label: Any = None
    num_labeled: Any = None


class CrossConsistency(base.Method):
    """Base of the methods; a subclass writes `train_step` and `encoder`.

    Args:
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

    UNLABELED_VIEW = "plain"
    # Of a method whose unlabeled images may have weak labels.
    weak_weight = 0.0

    def __init__(
        self,
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
    def encoder(self):
        """The encoder, whose top feature is perturbed."""
        raise NotImplementedError

    @property
    def ramps(self):
        return {"ramp": self.ramp}

    def step_callbacks(self):
        return [ramp.Ramp(self.ramp, self.ramp_name, self.ramp_steps)]

    def new_auxiliary(self, network):
        """A list of decoders of a network's form, one for each kind."""
        return [network.new_decoder() for _ in self.kinds]

    def loss_sup(self, logits, label):
        """float32 scalar, L_s of float32 [B, H, W, C] and int32 [B, H, W]."""
        if self.supervised == "cross_entropy":
            num_valid = self.mean_over_replicas(losses.num_valid(label))
            return losses.cross_entropy(logits, label, normalizer=num_valid)
        least = 1 / logits.shape[-1]
        growth = schedules.ramp("log", self.step, self.bootstrap_steps)
        threshold = least + growth * (self.bootstrap_threshold - least)
        return losses.bootstrapped_cross_entropy(
            logits, label, threshold, all_rows=self.all_rows
        )

    def auxiliary_losses(
        self, auxiliary, features, main, valid, label=None, source=None
    ):
        """What the auxiliary decoders and the encoder learn from.

        Args:
          auxiliary: list of decoders, one for each of `kinds`.
          features: of the encoder; what the decoders take.
          main: float32 [B, h, w, C], logits of the main decoder.
          valid: bool [B, H, W], False on padding.
          label: int32 [B, H, W], weak labels, 255 = none; or None.
          source: has `step_seed`, `my_part` and `global_rows` of a method,
            for what is drawn; None: this method.

        Returns:
          float32 scalar, the losses times their weights, which alone has a
          gradient; and the losses: {"loss_unsup": L_u, with the pairwise
          loss, "loss_weak": L_w if there are labels}. 0 if no pixel counts.
        """
        seen = self.see(features, main, valid, label, source or self)
        fast = hasattr(auxiliary[0], "sub_pixel_weights")
        if fast and not self.pairwise_weight:
            total, terms = self.sub_pixel_losses(auxiliary, seen)
        else:
            total, terms = self.streamed_losses(auxiliary, seen)
        return total, dict(zip(_TERMS, terms))

    def see(self, features, main, valid, label, source):
        """The Seen of the arguments of `auxiliary_losses`."""
        target = tf.nn.softmax(main)
        counted = nearest(valid, main)
        if self.threshold is not None:
            counted &= cross_consistency.confident(target, self.threshold)
        counted = tf.cast(counted, tf.float32)
        num_counted = self.mean_over_replicas(tf.reduce_sum(counted))
        scale = tf.math.divide_no_nan(1.0, num_counted)
        if self.over_classes:
            scale /= target.shape[-1]
        drawn = self.draw(
            self.kinds,
            tf.stop_gradient(features[self.encoder.top]),
            tf.argmax(main, -1, output_type=tf.int32),
            source,
        )
        seen = Seen(features, target, counted, scale, drawn, source.step_seed())
        if label is None:
            return seen
        label = nearest(label, main)
        num_labeled = self.mean_over_replicas(losses.num_valid(label))
        return seen._replace(label=label, num_labeled=num_labeled)

    def weighted(self, terms):
        """float32 scalar: [L_u], or [L_u, L_w], times their weights."""
        weights = (self.unsup_weight, self.weak_weight)
        return sum(weight * term for weight, term in zip(weights, terms))

    def sub_pixel_losses(self, auxiliary, seen):
        """Weighted sum and [L_u], or [L_u, L_w], of sub-pixel decoders.

        As L_w has a value of its own to report, it is a second pass.
        """

        def loss(target, counted, scale, distance):
            mean = sub_pixel_decoders.consistency(
                seen.features[self.encoder.top],
                target,
                [decoder.sub_pixel_weights for decoder in auxiliary],
                seen.drawn,
                counted,
                relu=auxiliary[0].relu,
                distance=distance,
            )
            # That of the squares is over the classes as well.
            averaged = target if distance is None else counted
            return scale * tf.cast(tf.size(averaged), tf.float32) * mean

        distance = None if self.distance == "mse" else self._of_rows
        terms = [loss(seen.target, seen.counted, seen.scale, distance)]
        if seen.label is not None:
            terms.append(
                loss(
                    tf.one_hot(seen.label, seen.target.shape[-1]),
                    tf.cast(seen.label != 255, tf.float32),
                    tf.math.divide_no_nan(1.0, seen.num_labeled),
                    _cross_entropy_of_rows,
                )
            )
        return self.weighted(terms), terms

    def _of_rows(self, logits, target):
        """float32 [n] of [n, C]: distances."""
        rows = (x[tf.newaxis, :, tf.newaxis] for x in (logits, target))
        distances = cross_consistency.distance(self.distance, *rows)
        return distances[0, :, 0]

    def streamed_losses(self, auxiliary, seen):
        """What `sub_pixel_losses` returns, of any decoders."""
        predict = [
            functools.partial(self.look, decoder, perturbation)
            for decoder, perturbation in zip(auxiliary, seen.drawn)
        ]
        unsup = [functools.partial(self._consistency, seen)] * len(predict)
        if self.pairwise_weight:
            unsup = self._with_pairwise(unsup[0], auxiliary, predict, seen)

        def loss(loss_unsup, logits):
            terms = [loss_unsup(logits)]
            if seen.label is not None:
                terms.append(
                    losses.cross_entropy(
                        logits, seen.label, normalizer=seen.num_labeled
                    )
                )
            return self.weighted(terms), tf.stack(terms)

        total, terms = streaming.mean(
            [
                (
                    predict[k],
                    decoder.trainable_variables,
                    functools.partial(loss, unsup[k]),
                )
                for k, decoder in enumerate(auxiliary)
            ],
            seen.features,
        )
        return total, tf.unstack(terms)

    def _consistency(self, seen, logits):
        """float32 scalar: one decoder's term of L_u."""
        distances = cross_consistency.distance(
            self.distance, logits, seen.target
        )
        return seen.scale * tf.reduce_sum(seen.counted * distances)

    def look(self, decoder, perturbation, features):
        """float32 [B, h, w, C]: what a decoder makes of perturbed features."""
        top = self.encoder.top

        def logits(z, training=False):
            return predict(decoder, {**features, top: z}, training)

        z = feature_perturbations.perturb(features[top], perturbation, logits)
        return logits(z, training=True)

    def _with_pairwise(self, consistency, auxiliary, predict, seen):
        """A loss for each decoder; that of the chosen ones has two terms.

        The mean over n chosen predictions of (p_k - p)^2, p their mean: as
        the deviations add up to 0, p needs no gradient. It is of looks of its
        own, for which dropout of a decoder draws once more.

        Args:
          consistency: float32 logits -> float32 scalar.
          auxiliary: list of decoders.
          predict: of each decoder, features -> logits.
          seen: Seen.
        """
        total = len(predict)
        count = min(self.pairwise_outputs, total)
        best = tf.math.top_k(draws.uniform([total], seen.seed), count).indices
        chosen = tf.reduce_any(best[:, tf.newaxis] == tf.range(total), 0)
        constant = tf.nest.map_structure(tf.stop_gradient, seen.features)
        # All looks: a branch of the graph could not synchronize BatchNorm.
        mean = tf.stop_gradient(
            tf.add_n(
                [
                    tf.where(
                        chosen[k],
                        tf.nn.softmax(_still(decoder, look, constant)),
                        0.0,
                    )
                    for k, (decoder, look) in enumerate(zip(auxiliary, predict))
                ]
            )
            / count
        )
        weight = self.pairwise_weight * total / count

        def with_variance(number, logits):
            deviation = tf.square(tf.nn.softmax(logits) - mean)
            variance = seen.scale * tf.reduce_sum(
                seen.counted * tf.reduce_sum(deviation, -1)
            )
            return consistency(logits) + weight * tf.where(
                chosen[number], variance, 0.0
            )

        return [functools.partial(with_variance, k) for k in range(total)]


def predict(decoder, features, training=True):
    """float32 [B, h, w, C], before they are resized to the image."""
    embedding = decoder.embed(features, training=training)
    return decoder.logits(embedding, training=training)


def _still(decoder, look, features):
    """look(features), which leaves the decoder's moving statistics alone."""
    moving = decoder.non_trainable_variables
    before = [tf.identity(variable) for variable in moving]
    logits = look(features)
    for variable, value in zip(moving, before):
        variable.assign(value)
    return logits


def nearest(values, like):
    """[B, h, w] of bool or int32 [B, H, W], at the size of `like`."""
    # GPUs resize no integers; float32 holds these as they are.
    numbers = tf.cast(values, tf.float32)[..., tf.newaxis]
    resized = tf.image.resize(numbers, tf.shape(like)[1:3], "nearest")
    return tf.cast(resized[..., 0], values.dtype)


def _cross_entropy_of_rows(logits, target):
    """float32 [n] of [n, C]."""
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)
