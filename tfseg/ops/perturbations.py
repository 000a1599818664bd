# SPDX-License-Identifier: Apache-2.0
"""Perturbations of an encoder's features, as factors to multiply them with.

Factors, because a 1 x 1 convolution commutes with those that are the same for
all channels or for all positions, which makes many decoders cheap. All come in
the dtype of the features and have no gradient of their own. Nothing is scaled
to keep a mean but by spatial dropout.

Source: Ouali et al., CVPR 2020 (arXiv 2003.09005), supplement tables 9 and 10
and section 12; official models/decoders.py.
"""

import math

import tensorflow as tf

from tfseg.ops import components, draws, shapes


def spatial_dropout_factor(features, draw, *, rate=0.5):
    """DropOut: which channels of an image stay, at a larger scale.

    Args:
      features: float [B, h, w, K]; only the dtype counts.
      draw: float [B, 1, 1, K], uniform in [0, 1).
      rate: probability of a channel to be dropped.

    Returns:
      Dtype of the features [B, 1, 1, K]: 0 or 1 / (1 - rate).

    Raises:
      ValueError: if the rank or the rate is wrong.

    Source: official decoders.py, DropOutDecoder.
    """
    shapes.check_rank("features", features, 4)
    shapes.check_rank("draw", draw, 4)
    if not 0 <= rate < 1:
        raise ValueError(f"`rate` must be in [0, 1). Received: rate={rate}.")
    kept = tf.convert_to_tensor(draw) >= rate
    return tf.cast(kept, features.dtype) * (1 / (1 - rate))


def feature_drop_mask(features, threshold):
    """F-Drop: 0 at the positions whose mean size over the channels is largest.

    Args:
      features: float [B, h, w, K].
      threshold: float scalar or [B], share of the image's largest mean that a
        position must stay below.

    Returns:
      Dtype of the features [B, h, w, 1] in {0, 1}; all 0 where an image's
      features are.

    Raises:
      ValueError: if a rank is wrong.

    Source: official decoders.py, FeatureDropDecoder. There the mean is of the
    features themselves, of which none is below 0; after a normalization, where
    an encoder of transformers ends, it would be about 0 everywhere.
    """
    shapes.check_rank("features", features, 4)
    threshold = tf.convert_to_tensor(threshold, tf.float32)
    shapes.check_rank("threshold", threshold, (0, 1))
    threshold = tf.reshape(threshold, [-1, 1, 1, 1])
    size = tf.abs(tf.cast(features, tf.float32))
    mean = tf.reduce_mean(size, -1, keepdims=True)
    largest = tf.reduce_max(mean, [1, 2], keepdims=True)
    return tf.cast(mean < threshold * largest, features.dtype)


def random_feature_drop_mask(features, seed, *, threshold_range=(0.6, 0.9)):
    """F-Drop with a uniform threshold, one for the whole batch.

    Args:
      features: float [B, h, w, K].
      seed: int32 [2].
      threshold_range: (low, high), see `feature_drop_mask`; official
        (0.7, 0.9).

    Returns:
      Dtype of the features [B, h, w, 1] in {0, 1}.

    Raises:
      ValueError: if the rank or the range is wrong.
    """
    low, high = threshold_range
    if not 0 <= low <= high <= 1:
        raise ValueError(
            "`threshold_range` must be (low, high) with 0 <= low <= high <= 1. "
            f"Received: ({low}, {high})."
        )
    threshold = low + (high - low) * draws.uniform([], seed)
    return feature_drop_mask(features, tf.cast(threshold, tf.float32))


def feature_noise_factor(features, seed, *, limit=0.3):
    """F-Noise: 1 + noise, the same for all images, as in the paper.

    Args:
      features: float [B, h, w, K]; only shape and dtype count.
      seed: int32 [2].
      limit: the noise is uniform in [-limit, limit].

    Returns:
      Dtype of the features [h, w, K].

    Raises:
      ValueError: if the rank is wrong.

    Source: official decoders.py, FeatureNoiseDecoder; paper, supplement 12.
    """
    drawn = draws.uniform(_shape(features)[1:], seed)
    factor = (1 - limit) + 2 * limit * tf.cast(drawn, tf.float32)
    return tf.cast(factor, features.dtype)


def context_mask(features, prediction):
    """Con-Msk: 1 at the positions of objects, 0 around them.

    Args:
      features: float [B, h, w, K]; only shape and dtype count.
      prediction: logits, float [B, H, W, C], or classes, int [B, H, W], of
        which row floor(i * H / h) and likewise a column is taken.

    Returns:
      Dtype of the features [B, h, w, 1] in {0, 1}.

    Raises:
      ValueError: if a rank is wrong.

    Source: official decoders.py, guided_masking.
    """
    shapes.check_rank("prediction", prediction, (3, 4))
    for axis in (1, 2):
        source = _source(_shape(features)[axis], _size(prediction, axis))
        prediction = tf.gather(prediction, source, axis=axis)
    inside = components.foreground(prediction)[..., tf.newaxis]
    return tf.cast(inside, features.dtype)


def object_mask(features, prediction):
    """Obj-Msk: 0 at the positions of objects, 1 around them.

    See `context_mask`, whose complement it is.
    """
    return 1 - context_mask(features, prediction)


def cutout_windows(boxes, position, *, erase=0.4, by_side=False):
    """A window inside of each box, from given uniform draws.

    Args:
      boxes: int32 [B, n, 4]: top, left, bottom, right, pixels, the latter two
        just outside, see `components.object_boxes`.
      position: float64 [B, n, 2] in [0, 1), y and x: which of the possible
        places, all of them equally likely.
      erase: share of the box in the window.
      by_side: the share is one of each side (official), the window's area
        erase^2 of the box's.

    Returns:
      int32 [B, n, 4], as `boxes`; windows may be empty, those of empty boxes
      are.

    Raises:
      ValueError: if a rank or the share is wrong.

    Source: paper supplement table 9, "area of the dropped region"; official
    decoders.py:188-192. As there, the sides of a box are one pixel shorter
    than the object, and lengths are rounded down.
    """
    shapes.check_rank("boxes", boxes, 3)
    shapes.check_rank("position", position, 3)
    if not 0 < erase <= 1:
        raise ValueError(f"`erase` must be in (0, 1]. Received: erase={erase}.")
    # float64 as Python: rounding to whole pixels must agree.
    start, stop = tf.split(tf.cast(boxes, tf.float64), 2, -1)
    extent = tf.maximum(stop - start - 1, 0.0)
    side = erase if by_side else math.sqrt(erase)
    places = tf.floor(extent * (1 - side)) + 1
    start += tf.floor(tf.cast(position, tf.float64) * places)
    windows = tf.concat([start, start + tf.floor(extent * side)], -1)
    return tf.cast(windows, tf.int32)


def cutout_mask(features, windows, *, size):
    """0 at the positions that look into a window.

    Args:
      features: float [B, h, w, K]; only shape and dtype count.
      windows: int32 [B, n, 4]: top, left, bottom, right, pixels, the latter
        two just outside.
      size: (H, W) of the image that the windows are in; position i looks at
        its row floor(i * H / h), and likewise a column.

    Returns:
      Dtype of the features [B, h, w, 1] in {0, 1}.

    Raises:
      ValueError: if a rank is wrong.
    """
    shapes.check_rank("windows", windows, 3)
    _, height, width, _ = _shape(features)
    windows = tf.cast(windows, tf.float32)[..., tf.newaxis]

    def covered(axis, length):
        pixel = tf.cast(_source(length, size[axis]), tf.float32)
        start, stop = windows[:, :, axis], windows[:, :, axis + 2]
        return tf.cast((pixel >= start) & (pixel < stop), tf.float32)

    count = tf.einsum("bny,bnx->byx", covered(0, height), covered(1, width))
    return tf.cast(count < 0.5, features.dtype)[..., tf.newaxis]


def guided_cutout_mask(
    features, boxes, position, *, size, erase=0.4, by_side=False
):
    """G-Cutout: 0 in a random window inside of each object's box.

    Many decoders share the boxes, which cost more than all the rest.

    Args:
      features: float [B, h, w, K]; only shape and dtype count.
      boxes: int32 [B, n, 4], see `components.object_boxes`.
      position: see `cutout_windows`.
      size: (H, W) of the prediction that the boxes are of.
      erase: see `cutout_windows`.
      by_side: see `cutout_windows`.

    Returns:
      Dtype of the features [B, h, w, 1] in {0, 1}.

    Raises:
      ValueError: if a rank or the share is wrong.
    """
    windows = cutout_windows(boxes, position, erase=erase, by_side=by_side)
    return cutout_mask(features, windows, size=size)


def _shape(features):
    shapes.check_rank("features", features, 4)
    return [_size(features, axis) for axis in range(4)]


def _size(tensor, axis):
    """Static if it is known, else an int32 scalar."""
    known = tensor.shape[axis]
    return known if known is not None else tf.shape(tensor)[axis]


def _source(length, extent):
    """int32 [length]: torch's "nearest"; TensorFlow's takes the middle."""
    return tf.range(length) * extent // length
