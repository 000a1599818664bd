# SPDX-License-Identifier: Apache-2.0
"""Virtual adversarial perturbations: what changes a prediction the most.

The distance of f(x + d) to f(x) grows with the square of d, so that its
gradient at a small d is the second derivative times d: each gradient is a step
of a power iteration toward the direction of the largest change.

Source: Miyato et al., TPAMI 2018 (arXiv 1704.03976), algorithm 1; for
segmentation French et al., BMVC 2020 (arXiv 1906.01916), supplement D.1.3.
"""

import tensorflow as tf

from tfseg.ops import shapes

# Root mean square of the gradient that enters a network at its logits. In
# float16 the sums over an image must not overflow, nor small weights lose it.
_UPSTREAM_SIZE = 2.0**-8


def direction(
    predict, image, target, noise, *, distance, xi, iterations=1, valid=None
):
    """Direction in which a small change of an image changes f the most.

    Costs `iterations` forward and backward passes to the input, in which
    images must not see each other: `predict` is in inference mode. What it
    computes has no gradient, but call it outside of the tape of a training
    step all the same: an eager tape would keep its activations.

    Args:
      predict: f, [B, H, W, C] of the dtype of `image` -> logits, float
        [B, H, W, K].
      image: float [B, H, W, C]; gray levels if an image, may be features.
      target: what `distance` takes, of the image or of another view of it.
      noise: float [B, H, W, C], standard normal draws; their size is of no
        importance.
      distance: (float32 logits, target) -> [B, H, W], of each pixel.
      xi: root mean square per valid value of the change at which the gradient
        is taken, in the unit of `image`. For images 1 gray level: a tenth of
        it drowns in the rounding of bfloat16, three are no longer small.
      iterations: power iterations.
      valid: bool [B, H, W]; other pixels are neither changed nor counted.
        Needs logits of the size of the image.

    Returns:
      float32 [B, H, W, C] of L2 norm 1 per image, without gradient; 0 for an
      image whose gradient is 0, or leaves the range of half precision.

    Raises:
      ValueError: if a rank, `xi` or `iterations` is wrong.

    Source: official train_seg_semisup_vat_mt.py:213-273. Differs: `xi` is a
    root mean square; there 1e-6 * H * W / 1000 is the norm, which float32
    does not resolve. There the graph keeps second derivatives that nothing
    uses. Gradients are normalized without an added epsilon, and once more at
    the logits, so that neither their scale nor half precision matters.
    """
    _check_ranks(image, valid)
    shapes.check_rank("noise", noise, 4)
    if xi <= 0 or iterations < 1:
        raise ValueError(
            "`xi` must be positive and `iterations` at least 1. "
            f"Received: xi={xi}, iterations={iterations}."
        )
    image, target = tf.stop_gradient(image), tf.stop_gradient(target)
    result = _normalize(noise, valid)
    for _ in range(iterations):
        change = _scale(result, fixed_radius(image, xi, valid))
        moved = tf.cast(image, tf.float32) + change
        moved = tf.cast(moved, image.dtype)
        gradient = _gradient(predict, moved, target, distance, valid)
        result = _normalize(gradient, valid)
    return tf.stop_gradient(result)


def adaptive_radius(image, valid=None):
    """L2 norm of an image's gradient, by central differences.

    Args:
      image: float [B, H, W, C].
      valid: bool [B, H, W]; a difference with another pixel does not count.

    Returns:
      float32 [B], in the unit of the image, without gradient; 0 for a
      constant image.

    Raises:
      ValueError: if a rank is wrong.

    Source: French et al. supplement D.1.3; official
    train_seg_semisup_vat_mt.py:287-296. Differs: there of the normalized
    image, nearly the same but for the unit.
    """
    _check_ranks(image, valid)
    image = tf.cast(image, tf.float32)
    rows = image[:, 2:] - image[:, :-2]
    columns = image[:, :, 2:] - image[:, :, :-2]
    if valid is not None:
        rows = _select(rows, valid[:, 2:] & valid[:, :-2])
        columns = _select(columns, valid[:, :, 2:] & valid[:, :, :-2])
    squares = sum(
        tf.reduce_sum(tf.square(part), [1, 2, 3]) for part in (rows, columns)
    )
    return tf.stop_gradient(0.5 * tf.sqrt(squares))


def fixed_radius(image, per_value, valid=None):
    """L2 norm of a perturbation of a given root mean square.

    Args:
      image: [B, H, W, C].
      per_value: the root mean square over valid values.
      valid: bool [B, H, W].

    Returns:
      float32 [B]: `per_value` times the root of the number of valid values.

    Raises:
      ValueError: if a rank is wrong.

    Source: official train_seg_semisup_vat_mt.py:298-301.
    """
    _check_ranks(image, valid)
    batch, height, width, channels = tf.unstack(tf.shape(image))
    if valid is None:
        num_pixels = tf.fill([batch], height * width)
    else:
        num_pixels = tf.reduce_sum(tf.cast(valid, tf.int32), [1, 2])
    return per_value * tf.sqrt(tf.cast(num_pixels * channels, tf.float32))


def _gradient(predict, image, target, distance, valid):
    """[B, H, W, C]: of the distances, each image's times a positive number."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(image)
        logits = predict(image)
    upstream = _logits_gradient(logits, target, distance, valid)
    return tape.gradient(
        logits,
        image,
        output_gradients=tf.cast(upstream, logits.dtype),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def _logits_gradient(logits, target, distance, valid):
    """float32 [B, H, W, K] of root mean square _UPSTREAM_SIZE per image."""
    logits = tf.cast(logits, tf.float32)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(logits)
        distances = distance(logits, target)
    norm = fixed_radius(logits, _UPSTREAM_SIZE, valid)
    return _normalize(tape.gradient(distances, logits), valid, norm)


def _normalize(values, valid, norm=None):
    """float32, valid values alone, of L2 norm `norm` [B] or 1; else all 0."""
    values = _select(tf.cast(values, tf.float32), valid)
    axes = [1, 2, 3]
    largest = tf.maximum(
        tf.reduce_max(values, axes, keepdims=True),
        -tf.reduce_min(values, axes, keepdims=True),
    )
    # Squares of what is not of size 1 may leave the range of float32.
    values = tf.math.divide_no_nan(values, largest)
    before = tf.sqrt(tf.reduce_sum(tf.square(values), axes))
    factor = tf.math.divide_no_nan(1.0 if norm is None else norm, before)
    finite = tf.math.is_finite(before)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.where(finite, _scale(values, factor), 0.0)


def _select(values, valid):
    """0 where not valid; selects, because NaN times 0 is NaN."""
    if valid is None:
        return values
    return tf.where(valid[..., tf.newaxis], values, 0.0)


def _scale(values, factor):
    return values * factor[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _check_ranks(image, valid):
    shapes.check_rank("image", image, 4)
    if valid is not None:
        shapes.check_rank("valid", valid, 3)
