# SPDX-License-Identifier: Apache-2.0
"""Distances between two predictions, and their mean over an image.

Source: French et al., BMVC 2020 (arXiv 1906.01916), supplement D.1; official
train_seg_semisup_mask_mt.py:357-410. Distances sum over the classes.
"""

import tensorflow as tf

from tfseg.ops import shapes

# Of the official code; keeps the logarithm of a probability of 0 finite.
_EPSILON = 1e-6


def _var(student, target):
    return tf.reduce_sum(tf.square(tf.nn.softmax(student) - target), -1)


def _bce(student, target):
    prob = tf.nn.softmax(student)
    positive = target * tf.math.log(prob + _EPSILON)
    negative = (1 - target) * tf.math.log(1 - prob + _EPSILON)
    return -tf.reduce_sum(positive + negative, -1)


def _kld(student, target):
    # xlogy: a target of exactly 0 contributes 0, not 0 * log 0.
    entropy = tf.math.xlogy(target, target)
    return tf.reduce_sum(entropy - target * tf.nn.log_softmax(student), -1)


def _logits_var(student, target):
    return _sum_over_root(tf.square(student - target))


def _logits_smoothl1(student, target):
    size = tf.abs(student - target)
    # Both branches are finite everywhere, so the gradient is as well.
    return _sum_over_root(tf.where(size < 1, 0.5 * tf.square(size), size - 0.5))


def _sum_over_root(values):
    num_classes = tf.cast(tf.shape(values)[-1], tf.float32)
    return tf.reduce_sum(values, -1) / tf.sqrt(num_classes)


DISTANCES = {
    "var": _var,
    "bce": _bce,
    "kld": _kld,
    "logits_var": _logits_var,
    "logits_smoothl1": _logits_smoothl1,
}


def compares_logits(name):
    """Whether a distance compares logits, not probabilities."""
    return name.startswith("logits_")


def target(name, teacher_logits):
    """What a distance compares with: probabilities, or logits.

    Args:
      name: see `distance`.
      teacher_logits: float [B, H, W, C].

    Returns:
      float32 [B, H, W, C], without gradient.
    """
    logits = tf.stop_gradient(tf.cast(teacher_logits, tf.float32))
    return logits if compares_logits(name) else tf.nn.softmax(logits)


def distance(name, student_logits, target):
    """Distance of each pixel's two predictions.

    Args:
      name: "var" (squared difference of probabilities), "bce", "kld",
        "logits_var" or "logits_smoothl1" (these two over sqrt(C)).
      student_logits: float [B, H, W, C]; computed in float32.
      target: float [B, H, W, C], see `target`, also mixed or warped; gets no
        gradient.

    Returns:
      float32 [B, H, W]. 0 where the predictions agree, except "bce", whose
      minimum is about the entropy of the target.

    Raises:
      ValueError: if a rank is wrong, or the name unknown.
    """
    if name not in DISTANCES:
        raise ValueError(
            f"`loss` must be one of {', '.join(DISTANCES)}. Received: {name!r}."
        )
    shapes.check_rank("student_logits", student_logits, 4)
    shapes.check_rank("target", target, 4)
    return DISTANCES[name](
        tf.cast(student_logits, tf.float32),
        tf.stop_gradient(tf.cast(target, tf.float32)),
    )


def certainty(teacher_logits):
    """float32 [B, H, W]: the largest probability of each pixel.

    Raises:
      ValueError: if the rank is not 4.
    """
    shapes.check_rank("teacher_logits", teacher_logits, 4)
    logits = tf.cast(teacher_logits, tf.float32)
    return tf.reduce_max(tf.nn.softmax(logits), -1)


def consistency(distance, valid, confidence):
    """Mean over all pixels of distance * valid * confidence.

    The denominator is B * H * W, not the number of valid pixels (official).

    Args:
      distance: float32 [B, H, W].
      valid: bool or float [B, H, W]; fractions, from resized masks, weigh.
      confidence: float32 scalar (share of confident pixels, or 1), or
        [B, H, W] (per pixel).

    Returns:
      float32 scalar; 0 if nothing is valid or confident.

    Raises:
      ValueError: if a rank is wrong.
    """
    confidence = tf.convert_to_tensor(confidence, tf.float32)
    shapes.check_rank("distance", distance, 3)
    shapes.check_rank("valid", valid, 3)
    shapes.check_rank("confidence", confidence, (0, 3))
    return tf.reduce_mean(distance * tf.cast(valid, tf.float32) * confidence)
