# SPDX-License-Identifier: Apache-2.0
"""Distances of auxiliary decoders' predictions to the main one's, of CCT.

Source: Ouali et al., CVPR 2020 (arXiv 2003.09005), supplement 2; official
utils/losses.py.
"""

import tensorflow as tf

from tfseg.ops import consistency, draws, losses, shapes

# Of the official code; keeps the logarithm of a probability of 0 finite.
_EPSILON = 1e-5


def _js(logits, target):
    prob, middle = _middle(logits, target)
    entropies = tf.math.xlogy(target, target) + prob * tf.nn.log_softmax(logits)
    return tf.reduce_sum(
        0.5 * entropies - tf.math.xlogy(middle, middle), axis=-1
    )


def _reversed_js(logits, target):
    _, middle = _middle(logits, target)
    logs = tf.nn.log_softmax(logits) + tf.math.log(target + _EPSILON)
    return tf.reduce_sum(
        tf.math.xlogy(middle, middle) - 0.5 * middle * logs, axis=-1
    )


def _middle(logits, target):
    prob = tf.nn.softmax(logits)
    return prob, 0.5 * (prob + target)


DIVERGENCES = {"js": _js, "reversed_js": _reversed_js}
# What `tfseg.ops.consistency` calls them.
SHARED = {"mse": "var", "kl": "kld"}
NAMES = (*SHARED, *DIVERGENCES)


def distance(name, logits, target):
    """Distance of each pixel's auxiliary prediction to the main one.

    Args:
      name: "mse" (eq. 1), "kl" (eq. 2, of the target from the prediction),
        "js" (eq. 3) or "reversed_js" (official: the two divergences are of
        the mean from the predictions, and the target's logarithm has 1e-5
        added, so that it falls slightly below 0 where the two agree).
      logits: float [B, H, W, C], auxiliary; computed in float32.
      target: float [B, H, W, C], probabilities, main; gets no gradient.

    Returns:
      float32 [B, H, W], summed over the classes.

    Raises:
      ValueError: if a rank is wrong, or the name unknown.

    Source: official losses.py:243-271.
    """
    if name not in NAMES:
        raise ValueError(
            f"`distance` must be one of {', '.join(NAMES)}. Received: {name!r}."
        )
    if name in SHARED:
        return consistency.distance(SHARED[name], logits, target)
    shapes.check_rank("logits", logits, 4)
    shapes.check_rank("target", target, 4)
    return DIVERGENCES[name](
        tf.cast(logits, tf.float32),
        tf.stop_gradient(tf.cast(target, tf.float32)),
    )


def confident(target, threshold=0.5):
    """Pixels whose largest probability exceeds a threshold.

    Args:
      target: float [B, H, W, C], probabilities.
      threshold: probability, beta.

    Returns:
      bool [B, H, W]; False where they are equal.

    Raises:
      ValueError: if the rank is wrong.

    Source: paper supplement 2.2.
    """
    shapes.check_rank("target", target, 4)
    return tf.reduce_max(tf.cast(target, tf.float32), -1) > threshold


def cross_consistency(name, logits, target, mask=None, *, over_classes=False):
    """Mean distance of one auxiliary decoder's predictions to the main ones.

    Args:
      name: see `distance`.
      logits: float [B, H, W, C], auxiliary; computed in float32.
      target: float [B, H, W, C], probabilities, main; gets no gradient.
      mask: bool or float [B, H, W], of the pixels that count, as those that
        are `confident`; all of them without it.
      over_classes: divides by C as well (official).

    Returns:
      float32 scalar; 0 with zero gradient if the mask is empty.

    Raises:
      ValueError: if a rank is wrong, or the name unknown.

    Source: official losses.py:243-271. Differs: there "kl" with a mask is
    divided by the number of all pixels instead of those in the mask, and
    "js" has none.
    """
    loss = _mean(distance(name, logits, target), mask)
    if over_classes:
        loss /= tf.cast(tf.shape(logits)[-1], tf.float32)
    return loss


def pairwise(logits, seed, mask=None, *, num_outputs=8):
    """Variance of auxiliary predictions among themselves (P-Wise).

    Args:
      logits: float [K, B, H, W, C]; computed in float32. K is static.
      seed: int32 [2].
      mask: bool or float [B, H, W], see `cross_consistency`.
      num_outputs: so many of the K, drawn at random, if there are more.

    Returns:
      float32 scalar: squared deviation from the mean prediction, mean over
      the predictions drawn, sum over the classes, mean over the pixels. 0 for
      a single prediction.

    Raises:
      ValueError: if a rank is wrong.

    Source: paper supplement eq. 4. Differs: the official code adds it to the
    loss that it logs, not to the one that it minimizes (model.py:137-151).
    """
    shapes.check_rank("logits", logits, 5)
    if logits.shape[0] > num_outputs:
        order = draws.uniform([logits.shape[0]], seed)
        chosen = tf.math.top_k(order, num_outputs).indices
        logits = tf.gather(logits, chosen)
    prob = tf.nn.softmax(tf.cast(logits, tf.float32))
    variance = tf.math.reduce_variance(prob, axis=0)
    return _mean(tf.reduce_sum(variance, -1), mask)


def _mean(values, mask):
    if mask is None:
        return tf.reduce_mean(values)
    return losses.masked_mean(values, mask)
