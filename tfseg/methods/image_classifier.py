# SPDX-License-Identifier: Apache-2.0
"""Learns which classes images show, for the pseudo labels of weak labels.

The first stage of CCT with weak labels (Ouali et al., CVPR 2020, arXiv
2003.09005; official pseudo_labels/train_cam.py). With the network `cam`, whose
logits are class activation maps, the score of a class is the mean of its map
over the pixels, and

    L = mean over images and foreground classes of
        -y log sigmoid(score) - (1 - y) log sigmoid(-score)

which is torch's multi-label soft-margin loss. No pixel is labeled; an image is
said to show what it shows as a whole, also where the crop has lost it. What
the maps become is in `ops.class_activation`. Any network can be trained so;
what it gives to the background is not learned.

Differs from the official code on purpose: padding does not count in the mean,
so that the score does not depend on how much of it there is. The official code
fills images that are smaller than the crop with zeros and pools over all
(`pool_padding=True`).
"""

import tensorflow as tf

from tfseg.methods import base


class ImageClassifier(base.Method):
    """A yes or no for every class of an image, from the mean of its map.

    Args:
      build_network: () -> network.
      seed: int.
      pool_padding: see the module.
    """

    SCALARS = ("loss", "accuracy")
    LABELED_VIEW = None
    UNLABELED_VIEW = "plain"
    IMAGE_LABELED = True

    def __init__(self, build_network, *, seed, pool_padding):
        super().__init__(seed=seed)
        self.student = build_network()
        self.pool_padding = pool_padding

    def train_step(self, batch):
        images = batch["unlabeled"]
        shown = images["classes"][:, 1:]
        with tf.GradientTape() as tape:
            scores, counted = self.scores(images["image"], images["valid"])
            mean = self.mean_over_images(counted)
            loss = mean(tf.nn.sigmoid_cross_entropy_with_logits(shown, scores))
        self.minimize(loss, tape, self.trained)
        right = tf.equal(scores > 0, shown > 0)
        return self.report(loss=loss, accuracy=mean(tf.cast(right, tf.float32)))

    def scores(self, image, valid):
        """Scores of the foreground classes, and which images have some.

        Args:
          image: float32 [B, H, W, 3].
          valid: bool [B, H, W], False on padding.

        Returns:
          float32 [B, C - 1], and float32 [B] in {0, 1}: 0, with scores of 0,
          for an image that is all padding.
        """
        decoder = self.student.decoder
        features = self.student.encoder(image, training=True)
        embedding = decoder.embed(features, training=True)
        maps = decoder.logits(embedding, training=True)[..., 1:]
        pooled = _nearest(valid | self.pool_padding, maps)
        scores = tf.math.divide_no_nan(
            tf.reduce_sum(maps * pooled, [1, 2]), tf.reduce_sum(pooled, [1, 2])
        )
        return scores, tf.reduce_max(pooled, [1, 2, 3])

    def mean_over_images(self, counted):
        """A function, the mean of float32 [B, C - 1] over classes and images.

        Over replicas, its mean is that over the images of them all.

        Args:
          counted: float32 [B] in {0, 1}, of the images that count.
        """
        num_counted = self.mean_over_replicas(tf.reduce_sum(counted))

        def mean(values):
            total = tf.reduce_sum(counted * tf.reduce_mean(values, -1))
            return tf.math.divide_no_nan(total, num_counted)

        return mean

    def passes(self, labeled, unlabeled):
        return [("train", unlabeled)]


def _nearest(valid, like):
    """float32 [B, h, w, 1] in {0, 1} of bool [B, H, W], the size of `like`."""
    valid = tf.cast(valid, tf.float32)[..., tf.newaxis]
    return tf.image.resize(valid, tf.shape(like)[1:3], "nearest")


build = ImageClassifier
