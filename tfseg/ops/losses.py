# SPDX-License-Identifier: Apache-2.0
"""Supervised losses and means that survive an empty set of pixels."""

import tensorflow as tf

from tfseg.ops import shapes


def num_valid(label, ignore_label=255):
    """How many pixels carry a class.

    Args:
      label: int [...].
      ignore_label: the value that does not count.

    Returns:
      float32 scalar.
    """
    # Counted as integers: float32 addition stops being exact at 2^24 pixels.
    valid = tf.cast(tf.not_equal(label, ignore_label), tf.int32)
    return tf.cast(tf.reduce_sum(valid), tf.float32)


def cross_entropy(
    logits, label, weight=None, normalizer=None, ignore_label=255
):
    """Mean softmax cross-entropy over the pixels that carry a class.

    Args:
      logits: float [B, H, W, C]; computed in float32 whatever the dtype. What
        stands at ignored pixels, NaN too, changes neither loss nor gradient.
      label: int [B, H, W], class in 0..C-1, or `ignore_label`.
      weight: optional float or bool [B, H, W], multiplies the loss of a pixel;
        a pixel of weight 0 still counts in the mean.
      normalizer: optional float32 scalar that replaces the number of valid
        pixels. Replicas with unequal counts pass the mean count over replicas,
        so that their mean loss is that of one replica on the whole batch.
      ignore_label: label that does not count.

    Returns:
      float32 scalar, nats per valid pixel; 0 with zero gradient if no pixel is
      valid. Not divided by the number of replicas.

    Raises:
      ValueError: if a rank is wrong.

    Source: CPS and CutMix-Seg, mean cross-entropy with ignored label 255.
    Differs: no valid pixel gives 0, where torch >= 1.10 gives NaN.
    """
    loss, valid = _of_pixels(logits, label, ignore_label)
    loss = tf.where(valid, loss, 0.0)
    if weight is not None:
        shapes.check_rank("weight", weight, 3)
        loss *= tf.cast(weight, tf.float32)
    if normalizer is None:
        normalizer = num_valid(label, ignore_label)
    return tf.math.divide_no_nan(tf.reduce_sum(loss), normalizer)


def ohem_cross_entropy(logits, label, *, threshold, min_kept, ignore_label=255):
    """Mean cross-entropy over the hard pixels (online hard example mining).

    Hard is a pixel whose true class has a probability of at most `threshold`,
    or of at most the `min_kept`-th smallest one if that is larger, so that
    `min_kept` pixels, and all that tie with the last of them, are kept at
    least. With fewer valid pixels than `min_kept`, all of them are kept.

    Args:
      logits: float [B, H, W, C]; computed in float32.
      label: int [B, H, W], class in 0..C-1, or `ignore_label`.
      threshold: probability in [0, 1].
      min_kept: pixels of the whole tensor, an int; 0 = the threshold alone.
      ignore_label: label that does not count.

    Returns:
      float32 scalar, nats per kept pixel; 0 with zero gradient if no pixel is
      kept.

    Raises:
      ValueError: if a rank is wrong.

    Source: CPS furnace/seg_opr/loss_opr.py:ProbOhemCrossEntropy2d. Differs:
    with min_kept = 0 the official code keeps every valid pixel.
    """
    loss, valid = _of_pixels(logits, label, ignore_label)
    # Of the true class; ignored pixels come last.
    prob = tf.where(valid, tf.exp(-tf.stop_gradient(loss)), 1.0)
    limit = tf.constant(threshold, tf.float32)
    if min_kept:
        count = tf.minimum(min_kept, tf.size(prob))
        smallest = -tf.math.top_k(-tf.reshape(prob, [-1]), count).values
        limit = tf.maximum(limit, tf.reduce_max(smallest))
        few = num_valid(label, ignore_label) < min_kept
        limit = tf.where(few, 1.0, limit)
    return masked_mean(loss, valid & (prob <= limit))


def bootstrapped_cross_entropy(
    logits, label, threshold, *, min_kept=1, ignore_label=255, all_rows=None
):
    """Mean cross-entropy over the pixels not yet learned (ab-CE).

    Those are pixels whose true class has a probability below `threshold`, or
    below that of the pixel after the `min_kept` worst ones per image, if it is
    larger. "Annealed", because the threshold grows during training: with ramp
    r in [0, 1], from 1 / C to alpha, 1 / C + r * (alpha - 1 / C).

    Args:
      logits: float [B, H, W, C]; computed in float32.
      label: int [B, H, W], class in 0..C-1, or `ignore_label`.
      threshold: float scalar (tensor), eta, probability.
      min_kept: pixels per image, counted in the whole tensor. Of at most
        B * min_kept valid pixels all but the best are kept; those that tie
        with the first one not kept are not kept either.
      ignore_label: label that does not count.
      all_rows: where the tensors are a replica's part of a batch: float32
        [B, ...] -> [N, ...], those of all replicas. Pixels are then counted
        in the whole batch.

    Returns:
      float32 scalar, nats per kept pixel, the mean over the replicas; 0 with
      zero gradient if no pixel is kept.

    Raises:
      ValueError: if a rank is wrong.

    Source: CCT eq. 4 and supplement eq. 11; official utils/losses.py,
    abCE_loss, where `min_kept` is from.
    """
    loss, valid = _of_pixels(logits, label, ignore_label)
    # Of the true class; ignored pixels come last.
    prob = tf.where(valid, tf.exp(-tf.stop_gradient(loss)), 2.0)
    every = prob if all_rows is None else all_rows(prob)
    batch = tf.shape(every)[0]
    worst = tf.minimum(batch * min_kept + 1, tf.size(every))
    smallest = -tf.math.top_k(-tf.reshape(every, [-1]), worst).values
    count = tf.math.count_nonzero(every <= 1.0, dtype=tf.int32)
    last = tf.clip_by_value(count - 1, 0, worst - 1)
    limit = tf.maximum(tf.cast(threshold, tf.float32), smallest[last])
    # Threshold and limit may be above 1, where ignored pixels are.
    kept = tf.math.count_nonzero((every < limit) & (every <= 1.0))
    share = tf.cast(tf.shape(prob)[0] / batch, tf.float32)
    values = tf.where(valid & (prob < limit), loss, 0.0)
    return tf.math.divide_no_nan(
        tf.reduce_sum(values), share * tf.cast(kept, tf.float32)
    )


def _of_pixels(logits, label, ignore_label):
    """Cross-entropy float32 [B, H, W], and which pixels carry a class.

    Of the others it has no meaning, but is finite.
    """
    shapes.check_rank("logits", logits, 4)
    shapes.check_rank("label", label, 3)
    label = tf.cast(label, tf.int32)
    valid = tf.not_equal(label, ignore_label)
    # Selected on both sides of the log: selecting only the result would leave
    # 0 * NaN in the gradient.
    logits = tf.where(valid[..., tf.newaxis], tf.cast(logits, tf.float32), 0.0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.where(valid, label, 0), logits=logits
    )
    return loss, valid


def masked_mean(values, mask):
    """Mean of the values where a mask is set.

    Args:
      values: float [...]; NaN outside the mask does no harm.
      mask: bool or float [...], of the same rank; a fraction is a weight.

    Returns:
      float32 scalar; 0 with zero gradient if the mask is empty.

    Raises:
      ValueError: if the ranks differ.
    """
    shapes.check_rank("mask", mask, len(values.shape))
    mask = tf.cast(mask, tf.float32)
    values = tf.where(mask > 0, tf.cast(values, tf.float32), 0.0)
    return tf.math.divide_no_nan(
        tf.reduce_sum(values * mask), tf.reduce_sum(mask)
    )
