# SPDX-License-Identifier: Apache-2.0
"""Directional contrastive loss: a feature learns from a more confident one.

Two views show the same places in different contexts. Of each pair of features
the less confident one, the anchor, is pulled to the other one, the positive,
and pushed from a bank of negatives. With unit features a, p, k_j this is

    loss = log(1 + sum_j exp((a . k_j - a . p) / temperature))

The sum over the negatives is that of `ops.log_sum_exp`. Exponents are at most
1 / temperature in size, far from the ends of float32.

Source: Lai et al., CVPR 2021 (Context-Aware Consistency), eq. 1-8; official
models/model.py:176-271. Differs: exact. There 1e-8 is added to denominator
and probability, relative to the closest of the first 8000 rows, of any class:
the same to 1e-5 as long as the positive is less than 12 * temperature behind
that row.
"""

import typing

import tensorflow as tf

from tfseg.ops import log_sum_exp, shapes

NORMALIZATIONS = ("image", "active")
# Most anchors of a tile, and its default size: the larger, the faster are the
# products, and the more need a mask.
_ROWS = 544
_TILE_BYTES = 6 * 2**20


class View(typing.NamedTuple):
    """Features of one of two views, those of one place at the same index.

    Attributes:
      features: float [B, N, C] or [B, h, w, C], of `l2_normalize`.
      label: int [B, N] or [B, h, w], pseudo label, 0 or more.
      confidence: float of that shape, the probability of that class.
    """

    features: tf.Tensor
    label: tf.Tensor
    confidence: tf.Tensor


class Bank(typing.NamedTuple):
    """Negatives.

    Attributes:
      features: float [M, C], of `l2_normalize`; finite in empty rows too.
      label: int [M], pseudo label; negative: the row is empty.
    """

    features: tf.Tensor
    label: tf.Tensor


def l2_normalize(features):
    """Divides by the norm along the last axis.

    Args:
      features: float [..., C]; half precision is computed in float32.

    Returns:
      Shape and type of `features`; 0 for a vector of zeros.
    """
    # Of the squares: a norm of 1e-12 at least, as the official code has it.
    unit = tf.math.l2_normalize(
        tf.cast(features, tf.float32), axis=-1, epsilon=1e-24
    )
    return tf.cast(unit, features.dtype)


def active_anchors(first, second, valid, *, threshold=0.75, directional=True):
    """Which features are anchors.

    Args:
      first: View.
      second: View.
      valid: bool [B, N] or [B, h, w], False where the views do not overlap.
      threshold: gamma, an anchor's positive is more confident than this;
        None: it need not be (no positive filtering).
      directional: whether it is also more confident than the anchor, so that
        at most one of a pair is one. Else both may be (vanilla contrast).

    Returns:
      bool [2, B, ...], of the first view and of the second. Summed over all
      but the first axis, what `contrastive_loss` takes as `normalizer`.

    Raises:
      ValueError: if a rank or the threshold is wrong.

    Source: eq. 2 and 7; official models/model.py:208, 248.
    """
    _check_view("first", first)
    _check_view("second", second)
    shapes.check_rank("valid", valid, len(first.label.shape))
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(
            "`threshold` must be in [0, 1], or None for no filtering. "
            f"Received: threshold={threshold}."
        )
    anchor = tf.stack([first.confidence, second.confidence])
    positive = tf.reverse(anchor, [0])
    result = tf.stack([valid, valid])
    if directional:
        result &= anchor < positive
    if threshold is not None:
        result &= tf.cast(positive, tf.float32) > threshold
    return result


def contrastive_loss(
    first,
    second,
    valid,
    bank,
    *,
    temperature=0.1,
    threshold=0.75,
    directional=True,
    filter_negatives=True,
    contrast=True,
    normalization="image",
    normalizer=None,
    tile_bytes=_TILE_BYTES,
):
    """Pulls features to their positives and pushes them from the negatives.

    Args:
      first: View; its features get a gradient where they are anchors alone.
      second: View.
      valid: bool [B, N] or [B, h, w], False where the views do not overlap.
        What stands there, NaN too, changes neither loss nor gradient.
      bank: Bank of M rows, gets no gradient. Products with it are in bfloat16
        if the features are, else in float32; all else is in float32.
      temperature: tau, at least 0.03.
      threshold: see `active_anchors`.
      directional: see `active_anchors`.
      filter_negatives: whether rows of an anchor's own class are no negatives.
      contrast: if not, the loss of an anchor is the squared distance to its
        positive, and the bank is of no matter, None for example.
      normalization: "image": sum over an image's anchors by its number of
        valid places, mean over the images. "active": for each direction, mean
        over the anchors of all images, as the official code has it; the sum
        of both.
      normalizer: float32 [2], replaces the numbers of anchors of "active".
        Replicas with unequal numbers pass the mean number over replicas.
      tile_bytes: of a tile of similarities, float32. Six are held at once,
        beside a copy of the bank.

    Returns:
      float32 scalar, nats; 0 with zero gradient if no feature is an anchor. An
      anchor without negatives adds 0. Not divided by the number of replicas.

    Raises:
      ValueError: if a rank or an option is wrong.

    Source: eq. 1-8; official models/model.py:176-271. Of table 3, the default
    is experiment VIII; V is not `directional`; IV has no `threshold`; III no
    `filter_negatives` either; II is not `directional` either. I has no
    `contrast` and no `threshold`, and is not `directional`.
    """
    _check_options(temperature, normalization, normalizer)
    active = active_anchors(
        first, second, valid, threshold=threshold, directional=directional
    )
    weight = _weights(active, valid, normalization, normalizer)
    anchor, positive, weight, label, rows = _pairs(
        first, second, active, weight, filter_negatives
    )
    if contrast:
        query = anchor / temperature
        is_bfloat16 = first.features.dtype == tf.bfloat16
        dtype = tf.bfloat16 if is_bfloat16 else tf.float32
        shapes.check_rank("bank.features", bank.features, 2)
        shapes.check_rank("bank.label", bank.label, 1)
        negatives = log_sum_exp.over_other_labels(
            query,
            label,
            bank.features,
            bank.label,
            rows=rows,
            columns=max(tile_bytes // (4 * _ROWS), 1),
            dtype=dtype,
        )
        loss = tf.nn.softplus(negatives - tf.reduce_sum(query * positive, -1))
    else:
        loss = tf.reduce_sum(tf.square(anchor - positive), -1)
    return tf.reduce_sum(weight * loss)


def write(bank, block, position):
    """Overwrites rows of a bank that is used as a ring.

    Args:
      bank: Bank of M rows.
      block: Bank of K rows, at most M; gradients end here.
      position: int scalar, row of the first one; the row after M - 1 is 0.

    Returns:
      Bank of M rows. The next block belongs to (position + K) % M.

    Raises:
      ValueError: if the block has more rows than the bank.
    """
    size, count = bank.label.shape[0], block.label.shape[0]
    if None not in (size, count) and count > size:
        raise ValueError(
            f"The block must not have more rows than the bank, {size}. "
            f"Received: {count}. Fix: a larger bank, or fewer rows at once."
        )
    rows = tf.range(tf.shape(block.label)[0]) + tf.cast(position, tf.int32)
    rows = (rows % tf.shape(bank.label)[0])[:, tf.newaxis]
    return Bank(
        *(
            tf.tensor_scatter_nd_update(
                old, rows, tf.cast(tf.stop_gradient(new), old.dtype)
            )
            for old, new in zip(bank, block)
        )
    )


def _weights(active, valid, normalization, normalizer):
    """float32 [2, B, ...]: what an anchor's loss counts; else 0."""
    active = tf.cast(active, tf.float32)
    places = list(range(1, len(valid.shape)))
    if normalization == "image":
        count = tf.reduce_sum(tf.cast(valid, tf.float32), places, keepdims=True)
        images = tf.cast(tf.shape(valid)[0], tf.float32)
        return tf.math.divide_no_nan(active, count * images)
    if normalizer is None:
        normalizer = tf.reduce_sum(active, [1] + [i + 1 for i in places])
    shape = [2] + [1] * len(valid.shape)
    return tf.math.divide_no_nan(active, tf.reshape(normalizer, shape))


def _pairs(first, second, active, weight, filter_negatives):
    """Anchors by class, then rows that are none, in whole tiles.

    Returns:
      float32 anchor [R, C], positive [R, C] and weight [R]; label int32 [R],
      `log_sum_exp.NONE` of a row that is no anchor: tiles of these cost
      nothing; the rows of a tile, int.
    """
    channels = first.features.shape[-1]
    features = tf.stack([first.features, second.features])
    features = tf.reshape(features, [-1, channels])
    label = tf.cast(tf.stack([first.label, second.label]), tf.int32)
    if not filter_negatives:
        label = tf.fill(tf.shape(label), -1)
    label = tf.reshape(tf.where(active, label, log_sum_exp.NONE), [-1])
    # Of two views, half are anchors as a rule.
    rows = log_sum_exp.even_part(label.shape[0], _ROWS, parts=2)
    order, label, count = *log_sum_exp.sort(label, rows), tf.size(label)
    is_anchor = label < log_sum_exp.NONE
    # The same place of the other view.
    partner = (order + count // 2) % count
    anchor, positive = (
        tf.where(
            is_anchor[:, tf.newaxis],
            tf.cast(tf.gather(features, places), tf.float32),
            0.0,
        )
        for places in (order, partner)
    )
    weight = tf.gather(tf.reshape(weight, [-1]), order)
    weight = tf.where(is_anchor, weight, 0.0)
    return anchor, tf.stop_gradient(positive), weight, label, rows


def _check_view(name, view):
    shapes.check_rank(f"{name}.features", view.features, (3, 4))
    rank = len(view.features.shape) - 1
    shapes.check_rank(f"{name}.label", view.label, rank)
    shapes.check_rank(f"{name}.confidence", view.confidence, rank)


def _check_options(temperature, normalization, normalizer):
    if not temperature >= 0.03:
        raise ValueError(
            "`temperature` must be at least 0.03: exp(2 / temperature) must be "
            f"far below the end of float32. Received: {temperature}."
        )
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"`normalization` must be one of {', '.join(NORMALIZATIONS)}. "
            f"Received: {normalization!r}."
        )
    if normalizer is not None and normalization != "active":
        raise ValueError(
            "`normalizer` is for normalization='active' alone: all replicas "
            f"have as many images. Received: {normalization!r}."
        )
    if normalizer is not None:
        shapes.check_rank("normalizer", tf.convert_to_tensor(normalizer), 1)
