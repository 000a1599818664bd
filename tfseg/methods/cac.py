# SPDX-License-Identifier: Apache-2.0
"""Context-aware consistency: Lai et al., CVPR 2021 (arXiv 2106.14133).

Two crops of an unlabeled image overlap. What both show, a pixel of the
overlap, stands in two contexts; its features phi1 and phi2, projected and of
unit length, must agree, the less confident one with the other (eq. 1 to 9):

    L = L_ce + unsup_weight * L_dc
    L_dc = mean over images of 1/N * sum over pixels of
           -log(r(phi1, phi2) / (r(phi1, phi2) + sum_n r(phi1, phi_n)))
           and the same with 1 and 2 exchanged,
    r(a, b) = exp(a . b / temperature)

The anchor phi1 is less confident than its positive phi2, which is more
confident than `threshold`; it alone gets the gradient. Negatives phi_n are
features of another pseudo label, from the crops of this step and of earlier
ones: a ring of `bank_size` rows, filled by all replicas and kept in
checkpoints. Ablations (Table 3): `contrast=False` is the squared distance,
with `directional`, `filter_negatives`, `filter_positives` and `projection`
(0 = none) off one has the other rows.

In the first `start_steps` L_dc does not count; the bank is filled.

With image-level labels (section 3.5) unlabeled images have coarse labels, of
class activation maps, in `config.data.pseudo_labels`. Lest they spoil the
classifier, a linear one of their own, C_w, learns them from the features of
both crops, from the first step on; it is not deployed (eq. 10 and 11):

    L = L_ce + unsup_weight * L_dc + ramp * weak_weight * L_w
    L_w = mean over labeled pixels of both crops of  CE(C_w(f_u), label)

The features are those that the network's classifier sees, `embed` of its
decoder, for L_dc average-pooled by `pool`; pseudo labels and confidences are
the classifier's on the same pooled features, which for a linear one is as good
as pooling its logits. Labeled images and both crops are three passes, each with
batch statistics of its own, as in the official code.

Differs from the official code (Context-Aware-Consistency) on purpose:
  - each image's sum is divided by its number of overlapping places (eq. 6), not
    the sum of all images by the number of anchors (`normalization="active"`);
  - the loss is exact, see `ops.contrastive`;
  - negatives are drawn image by image, `num_negatives` of each crop, so that
    one and two replicas draw the same, and padding is none of them;
  - unlabeled crops are seen from the first step on, so that BatchNorm knows
    them when L_dc begins to count;
  - there is L_w, which that code leaves out. The paper takes the mean of each
    crop and halves their sum; here every labeled pixel counts alike.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg import schedules
from tfseg.callbacks import ramp
from tfseg.methods import base
from tfseg.methods.families import checks
from tfseg.ops import contrastive, draws, losses, overlap


class CAC(base.Method):
    """Context-aware consistency.

    Args:
      build_network: () -> network.
      seed: int.
      unsup_weight: factor of L_dc.
      start_steps: see the module.
      pool: side of the average pooling before the projector.
      projection: channels of the projector's output; 0 = no projector.
      projection_hidden: channels of its hidden layer; 0 = as many as its
        input has.
      temperature, threshold, directional, filter_negatives, contrast,
        normalization: see `ops.contrastive.contrastive_loss`.
      filter_positives: whether `threshold` counts.
      bank_size: rows of the bank.
      num_negatives: places of a crop that enter the bank; 0 = all.
      weak_weight: factor of L_w; 0 = there is no C_w, and need be no labels.
      ramp: name of a ramp in `schedules.RAMPS`, on `weak_weight`.
      ramp_steps: its length, steps; 0 = `weak_weight` at once.
    """

    SCALARS = ("loss", "loss_sup", "loss_unsup", "anchor_rate")
    UNLABELED_VIEW = "overlap_pair"

    def __init__(
        self,
        build_network,
        *,
        seed,
        unsup_weight,
        start_steps,
        pool,
        projection,
        projection_hidden,
        temperature,
        threshold,
        directional,
        filter_negatives,
        filter_positives,
        contrast,
        normalization,
        bank_size,
        num_negatives,
        weak_weight,
        ramp,
        ramp_steps,
    ):
        # Only where it is used: checkpoints hold the scalars' means.
        if weak_weight:
            self.SCALARS = (*self.SCALARS, "loss_weak")
        super().__init__(seed=seed)
        for name, value in {
            "unsup_weight": unsup_weight,
            "start_steps": start_steps,
            "projection": projection,
            "projection_hidden": projection_hidden,
            "num_negatives": num_negatives,
            "weak_weight": weak_weight,
            "ramp_steps": ramp_steps,
        }.items():
            checks.not_negative(name, value)
        checks.positive("pool", pool)
        checks.positive("bank_size", bank_size)
        checks.rate("threshold", threshold)
        checks.choice(
            "normalization", normalization, contrastive.NORMALIZATIONS
        )
        checks.choice("ramp", ramp, schedules.RAMPS)
        self.student = build_network()
        self.unsup_weight, self.start_steps = unsup_weight, start_steps
        self.pool, self.num_negatives = pool, num_negatives
        self.weak_weight = weak_weight
        self.ramp_name, self.ramp_steps = ramp, ramp_steps
        self.active = {
            "directional": directional,
            "threshold": threshold if filter_positives else None,
        }
        self.normalization = normalization
        self.contrast = {
            "contrast": contrast,
            "temperature": temperature,
            "filter_negatives": filter_negatives,
        }
        channels = self.embed(tf.zeros([1, 32, 32, 3])).shape[-1]
        self.build_projector(channels, projection, projection_hidden)
        self.build_bank(bank_size, projection or channels)
        if weak_weight:
            self.build_weak_classifier(channels)

    def build_projector(self, channels, projection, hidden):
        """Phi, on features of so many channels."""
        self.projector = keras.Sequential()
        if projection:
            self.projector.add(keras.layers.Dense(hidden or channels, "relu"))
            self.projector.add(keras.layers.Dense(projection))
        self.projector.build([None, None, None, channels])

    def build_bank(self, size, channels):
        """The ring of earlier features, empty."""
        self.bank_features = self.add_state(
            "bank_features", tf.zeros([size, channels]), tf.float32
        )
        # -1: the row is empty.
        self.bank_label = self.add_state(
            "bank_label", tf.fill([size], -1), tf.int32
        )
        self.position = self.add_state("bank_position", 0, tf.int32)

    def build_weak_classifier(self, channels):
        """C_w, on features of so many channels, and the ramp of L_w."""
        self.weak_classifier = keras.layers.Conv2D(
            self.student.num_classes, 1, dtype="float32"
        )
        self.weak_classifier.build([None, None, None, channels])
        self.ramp = self.add_state("ramp", 0.0, tf.float32)

    @property
    def trained(self):
        parts = [self.student, self.projector]
        if self.weak_weight:
            parts.append(self.weak_classifier)
        return [v for part in parts for v in part.trainable_variables]

    @property
    def ramps(self):
        return {"ramp": self.ramp} if self.weak_weight else {}

    def step_callbacks(self):
        return [
            ramp.Ramp(variable, self.ramp_name, self.ramp_steps)
            for variable in self.ramps.values()
        ]

    def train_step(self, batch):
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        label = labeled["label"]
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        started = tf.cast(self.step >= self.start_steps, tf.float32)
        with tf.GradientTape() as tape:
            logits = self.student(labeled["image"], training=True)
            loss_sup = losses.cross_entropy(logits, label, normalizer=num_valid)
            first_features, first = self.look(unlabeled["first"])
            second_features, second = self.look(unlabeled["second"])
            bank = self.remember(unlabeled, first, second)
            loss_unsup, anchor_rate = self.loss_unsup(
                unlabeled, first, second, bank
            )
            loss = loss_sup + started * self.unsup_weight * loss_unsup
            weak = {}
            if self.weak_weight:
                loss_weak = self.loss_weak(
                    unlabeled, first_features, second_features
                )
                loss += self.ramp * self.weak_weight * loss_weak
                weak = {"loss_weak": loss_weak}
        self.minimize(loss, tape, self.trained)
        return self.report(
            loss=loss,
            loss_sup=loss_sup,
            loss_unsup=loss_unsup,
            anchor_rate=anchor_rate,
            **weak,
        )

    def embed(self, image, training=False):
        """What the classifier sees, [B, h, w, K] of compute dtype."""
        features = self.student.encoder(image, training=training)
        return self.student.decoder.embed(features, training=training)

    def look(self, image):
        """What is known of a crop.

        Args:
          image: float32 [B, H, W, 3].

        Returns:
          Its features f, [B, h, w, K] of compute dtype, and the
          contrastive.View of them, pooled.
        """
        features = self.embed(image, training=True)
        embedding = _pooled(features, self.pool)
        logits = self.student.decoder.logits(embedding, training=True)
        # Of a decoder that enlarges what it classifies.
        logits = _pooled(logits, logits.shape[1] // embedding.shape[1])
        prob = tf.nn.softmax(tf.stop_gradient(logits))
        return features, contrastive.View(
            contrastive.l2_normalize(self.projector(embedding)),
            tf.argmax(prob, -1, output_type=tf.int32),
            tf.reduce_max(prob, -1),
        )

    def loss_unsup(self, unlabeled, first, second, bank):
        """L_dc, and the share of overlapping places that are anchors.

        Args:
          unlabeled: batch of the view `overlap_pair`.
          first: contrastive.View of its first crops.
          second: of its second ones.
          bank: contrastive.Bank.

        Returns:
          Two float32 scalars.
        """
        stride = unlabeled["first"].shape[1] // first.label.shape[1]
        found = overlap.find(
            unlabeled["matrix"],
            unlabeled["first_valid"],
            unlabeled["second_valid"],
            stride=stride,
        )
        partner = contrastive.View(
            *(overlap.align(x, found.index) for x in second)
        )
        anchors = contrastive.active_anchors(
            first, partner, found.inside, **self.active
        )
        counts = tf.reduce_sum(tf.cast(anchors, tf.float32), [1, 2, 3])
        normalizer = None
        if self.normalization == "active":
            normalizer = self.mean_over_replicas(counts)
        loss = contrastive.contrastive_loss(
            first,
            partner,
            found.inside,
            bank,
            normalization=self.normalization,
            normalizer=normalizer,
            **self.active,
            **self.contrast,
        )
        places = tf.reduce_sum(tf.cast(found.inside, tf.float32))
        return loss, tf.math.divide_no_nan(tf.reduce_sum(counts), places)

    def loss_weak(self, unlabeled, first, second):
        """L_w.

        Args:
          unlabeled: batch of the view `overlap_pair`, with labels.
          first: [B, h, w, K], features of its first crops.
          second: of its second ones.

        Returns:
          float32 scalar; 0 if no pixel has a label.
        """
        labels = [unlabeled["first_label"], unlabeled["second_label"]]
        num_valid = self.mean_over_replicas(losses.num_valid(tf.stack(labels)))
        parts = []
        for features, label in zip((first, second), labels):
            logits = self.student.decoder.resize(
                self.weak_classifier(features), tf.shape(label)[1:]
            )
            parts.append(
                losses.cross_entropy(logits, label, normalizer=num_valid)
            )
        return tf.add_n(parts)

    def remember(self, unlabeled, first, second):
        """Writes this step's features into the bank; returns it.

        Args:
          unlabeled: batch of the view `overlap_pair`.
          first: contrastive.View of its first crops.
          second: of its second ones.

        Returns:
          contrastive.Bank with the features of all replicas, as tensors.
        """
        parts = []
        for number, (name, view) in enumerate(
            {"first": first, "second": second}.items()
        ):
            stride = unlabeled[name].shape[1] // view.label.shape[1]
            valid = overlap.whole(name, unlabeled[f"{name}_valid"], stride)
            label = tf.where(valid, view.label, -1)
            parts.append(self.sample(view.features, label, number))
        block = contrastive.Bank(
            *(self.all_rows(tf.concat(x, 1)) for x in zip(*parts))
        )
        block = contrastive.Bank(
            tf.reshape(block.features, [-1, block.features.shape[-1]]),
            tf.reshape(block.label, [-1]),
        )
        before = contrastive.Bank(
            tf.convert_to_tensor(self.bank_features),
            tf.convert_to_tensor(self.bank_label),
        )
        bank = contrastive.write(before, block, self.position)
        self.bank_features.assign(bank.features)
        self.bank_label.assign(bank.label)
        size = tf.size(bank.label)
        self.position.assign((self.position + tf.size(block.label)) % size)
        return bank

    def sample(self, features, label, crop):
        """`num_negatives` places of each image's crop, drawn at random.

        Args:
          features: float [B, h, w, K].
          label: int32 [B, h, w].
          crop: 0 or 1.

        Returns:
          float [B, N, K] and int32 [B, N], without gradient.
        """
        places = label.shape[1] * label.shape[2]
        features = tf.reshape(
            tf.stop_gradient(features), [-1, places, features.shape[-1]]
        )
        label = tf.reshape(label, [-1, places])
        if not 0 < self.num_negatives < places:
            return features, label
        seed = self.step_seed() + [0, crop + 1]
        order = self.my_part(
            draws.uniform([self.global_rows(label), places], seed)
        )
        chosen = tf.math.top_k(order, self.num_negatives, sorted=False).indices
        return [tf.gather(x, chosen, batch_dims=1) for x in (features, label)]

    def passes(self, labeled, unlabeled):
        crop = ("train", unlabeled)
        return [("train", labeled), crop, crop]


def _pooled(x, side):
    """Means of squares of so many pixels; of what is left over, none."""
    return x if side == 1 else tf.nn.avg_pool2d(x, side, side, "VALID")


build = CAC
