# SPDX-License-Identifier: Apache-2.0
"""A mean teacher of points in the plane."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfseg.ops import consistency
from tfseg.studies.toy import plane

PERTURBATIONS = ("none", "isotropic", "constrained")

SIGMA = 0.117
TOLERANCE = 0.016
WEIGHT = 10.0
THRESHOLD = 0.97
DECAY = 0.99
# 2 pixels of 512: the points lie around the pixels, not on them.
JITTER = 2 * 2 / 512
_LEARNING_RATE = 2e-4
_BATCH = 512
_WIDTH = 512
# Steps between two returns to Python, so that Ctrl-C is heard.
_CHUNK = 500
_METRICS = ("loss_sup", "loss_consistency", "confident_rate", "kept_rate")
# Points in a pass of the prediction.
_PASS = 4096


class Data(NamedTuple):
    """What to learn from.

    distance: float32 [size, size], see plane.signed_distance.
    labeled: int32 [L], pixels.
    pixels: int32 [N], where the unlabeled points are.
    """

    distance: np.ndarray
    labeled: np.ndarray
    pixels: np.ndarray


def train(data, perturbation, *, steps, seed):
    """Trains a network, from the same start for every perturbation.

    Args:
      data: Data.
      perturbation: "none" = supervised alone, "isotropic" or "constrained".
      steps: optimizer steps.
      seed: int, of the start, the points and their perturbations.

    Returns:
      The teacher, and a dict of floats, means of the last steps: loss_sup,
      loss_consistency, confident_rate and kept_rate (perturbations that the
      constraint keeps).

    Raises:
      ValueError: if the perturbation is unknown.
    """
    if perturbation not in PERTURBATIONS:
        raise ValueError(
            f"`perturbation` must be one of {', '.join(PERTURBATIONS)}. "
            f"Received: {perturbation!r}."
        )
    student, teacher = build_network(seed), build_network(seed)
    optimizer = keras.optimizers.Adam(_LEARNING_RATE, epsilon=1e-8)
    optimizer.build(student.trainable_variables)
    labeled = plane.points(data.labeled, len(data.distance))
    labels = (data.distance.ravel()[data.labeled] > 0).astype(np.int32)

    def train_step(step):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels, student(labeled)
                )
            )
            metrics = {"loss_sup": loss}
            if perturbation != "none":
                seeds = tf.random.experimental.stateless_split([seed, step], 3)
                points, perturbed = draw(data, seeds)
                kept = tf.ones([_BATCH])
                if perturbation == "constrained":
                    kept = plane.along_contour(
                        data.distance, points, perturbed, TOLERANCE
                    )
                loss_unsup, terms = loss_consistency(
                    student(perturbed), teacher(points), kept
                )
                loss += WEIGHT * loss_unsup
                metrics |= terms
        gradients = tape.gradient(loss, student.trainable_variables)
        optimizer.apply_gradients(zip(gradients, student.trainable_variables))
        average(teacher, student)
        return metrics

    names = _METRICS[:1] if perturbation == "none" else _METRICS
    return teacher, _repeat(train_step, names, steps)


def _repeat(train_step, names, steps):
    """Means of the metrics over the last chunk, as floats."""

    @tf.function
    def run(first, last):
        total = {name: tf.constant(0.0) for name in names}
        for step in tf.range(first, last):
            metrics = train_step(step)
            total = {name: total[name] + metrics[name] for name in names}
        count = tf.cast(last - first, tf.float32)
        return {name: total[name] / count for name in names}

    for first in range(0, steps, _CHUNK):
        last = min(first + _CHUNK, steps)
        means = run(tf.constant(first), tf.constant(last))
    return {name: float(value) for name, value in means.items()}


def build_network(seed):
    """MLP with three hidden layers, the first weights drawn as PyTorch does.

    The biases matter: were they 0, each kink of the first function would go
    through the origin of the plane.

    Returns:
      keras.Model, float32 [N, 2] -> logits float32 [N, 2].
    """
    network = keras.Sequential()
    sizes = (2, _WIDTH, _WIDTH, _WIDTH, 2)
    seeds = np.random.default_rng(seed).integers(2**31, size=[4, 2]).tolist()
    for number, (before, after) in enumerate(zip(sizes, sizes[1:])):
        bound = 1 / math.sqrt(before)
        kernel, bias = (
            keras.initializers.RandomUniform(-bound, bound, seed=which)
            for which in seeds[number]
        )
        network.add(
            keras.layers.Dense(
                after,
                activation=None if number == 3 else "relu",
                kernel_initializer=kernel,
                bias_initializer=bias,
            )
        )
    network.build([None, 2])
    return network


def draw(data, seeds):
    """Unlabeled points, and where their perturbations take them.

    Args:
      data: Data.
      seeds: int32 [3, 2].

    Returns:
      float32 [batch, 2] twice.
    """
    chosen = tf.random.stateless_uniform(
        [_BATCH], seeds[0], maxval=len(data.pixels), dtype=tf.int32
    )
    centers = plane.points(tf.gather(data.pixels, chosen), len(data.distance))
    jitter = tf.random.stateless_normal([_BATCH, 2], seeds[1], stddev=JITTER)
    points = centers + jitter
    perturbation = tf.random.stateless_normal(
        [_BATCH, 2], seeds[2], stddev=SIGMA
    )
    return points, points + perturbation


def loss_consistency(student_logits, teacher_logits, kept):
    """Binary cross-entropy, mean over the perturbations that are kept.

    Args:
      student_logits, teacher_logits: float32 [N, 2].
      kept: float32 [N] in {0, 1}.

    Returns:
      float32 scalar, 0 if nothing is kept or confident; and a dict of it,
      confident_rate and kept_rate.

    Source: French et al. 2020, supplement C; toy2d_train.py:385-396.
    """
    student, teacher = (
        logits[:, tf.newaxis, tf.newaxis]
        for logits in (student_logits, teacher_logits)
    )
    target = consistency.target("bce", teacher)
    distance = consistency.distance("bce", student, target)[:, 0, 0]
    confident = tf.cast(
        consistency.certainty(teacher)[:, 0, 0] >= THRESHOLD, tf.float32
    )
    loss = tf.math.divide_no_nan(
        tf.reduce_sum(distance * confident * kept), tf.reduce_sum(kept)
    )
    return loss, {
        "loss_consistency": loss,
        "confident_rate": tf.reduce_mean(confident),
        "kept_rate": tf.reduce_mean(kept),
    }


def average(teacher, student):
    """teacher = DECAY * teacher + (1 - DECAY) * student."""
    for old, new in zip(teacher.variables, student.variables):
        old.assign(DECAY * old + (1 - DECAY) * new)


def predict(network, size):
    """bool [size, size]: where a network says class 1, at pixel centers."""

    @tf.function(reduce_retracing=True)
    def classify(points):
        logits = network(points)
        return logits[:, 1] > logits[:, 0]

    points = plane.points(tf.range(size * size), size)
    passes = [
        classify(points[first : first + _PASS])
        for first in range(0, size * size, _PASS)
    ]
    return tf.concat(passes, 0).numpy().reshape(size, size)
