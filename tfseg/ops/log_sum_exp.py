# SPDX-License-Identifier: Apache-2.0
"""Log of a sum of exponentials over all pairs of rows of different labels.

Both are sorted by label and meet in tiles. Tiles of a single label are
skipped, and few others need a mask. The gradient is the mean of the keys
weighted by their exponentials, which is summed up beside them: no tile is
kept, or computed again. A tile's exponentials come from a softmax, the fastest
exponential there is on a CPU, and from their ratio to it in one column that is
not masked. Nothing is subtracted: see the range of the products.
"""

import tensorflow as tf

# Sorts what does not count to the end.
NONE = tf.int32.max
# Tiles in flight: two fill the cores while an operation of one waits for
# memory, or has one thread.
_PARALLEL = 2
# Added to a product, its exponential is 0.
_MASKED = -1e4
# Labels of a tile of rows whose masks are rows of a table: to copy these takes
# less than to compare all pairs.
_FEW = 32


def even_part(size, most, parts=1):
    """Size of the largest equal parts, in number a multiple of `parts`.

    Args:
      size: int, of the whole; None or 0: unknown or empty, one part of `most`.
      most: int, largest size of a part.
      parts: int.
    """
    if not size:
        return most
    count = parts * -(-size // (parts * most))
    return -(-size // count)


def sort(label, tile):
    """Order and labels in that order, with NONE up to a whole tile.

    Args:
      label: int32 [n]; NONE comes last.
      tile: int, rows of a tile.

    Returns:
      int32 [m] and int32 [m], m the least multiple of `tile` from n on; where
      there is padding, the order is 0.
    """
    order = tf.argsort(label)
    padding = [[0, -tf.size(order) % tile]]
    label = tf.pad(tf.gather(label, order), padding, constant_values=NONE)
    return tf.pad(order, padding), label


def over_other_labels(query, label, keys, key_label, *, rows, columns, dtype):
    """Log of the sum of exp(query . k) over the keys k of other labels.

    Args:
      query: float32 [tiles * rows, C]; products with keys are at most
        1 / 0.03 in size, so that a share of a tile cannot underflow.
      label: int32 [tiles * rows], of `sort`; NONE: result of no meaning.
      keys: float [M, C], gets no gradient.
      key_label: int [M]; negative: not a key.
      rows: of a tile.
      columns: most of a tile.
      dtype: of the products.

    Returns:
      float32 [tiles * rows], with a gradient to `query` alone; -inf if there
      is no such key.
    """
    columns = even_part(key_label.shape[0], columns)
    key_label = tf.cast(key_label, tf.int32)
    key_label = tf.where(key_label < 0, NONE, key_label)
    order, key_label = sort(key_label, columns)
    keys = tf.gather(tf.cast(tf.stop_gradient(keys), dtype), order)
    channels = query.shape[-1]

    @tf.custom_gradient
    def log_sum_exp(query):
        query = tf.cast(query, dtype)
        total, mean = tf.map_fn(
            lambda start: _sum_exp(
                tf.slice(query, [start, 0], [rows, -1]),
                tf.slice(label, [start], [rows]),
                keys,
                key_label,
                columns,
            ),
            tf.range(0, tf.shape(query)[0], rows),
            parallel_iterations=_PARALLEL,
            fn_output_signature=(tf.float32, tf.float32),
        )
        mean = tf.reshape(mean, [-1, channels])

        def gradient(upstream):
            return upstream[:, tf.newaxis] * mean

        return tf.math.log(tf.reshape(total, [-1])), gradient

    return log_sum_exp(query)


def _sum_exp(query, label, keys, key_label, columns):
    """Sum of exponentials [rows], and the mean of the keys by them [rows, C].

    Of a tile of anchors, `query` [rows, C] and `label` [rows], with all keys,
    tile by tile. In both, labels are sorted.
    """
    low = label[0]
    high = tf.reduce_max(tf.where(label < NONE, label, low))
    num_keys = tf.math.count_nonzero(key_label < NONE, dtype=tf.int32)
    rank = tf.cumsum(tf.cast(label[1:] != label[:-1], tf.int32))
    rank = tf.pad(rank, [[1, 0]])
    few = rank[-1] < _FEW
    # The label of each rank, which all rows of the rank share.
    names = tf.math.unsorted_segment_max(
        label, tf.minimum(rank, _FEW - 1), _FEW
    )

    def add(start, total, weighted):
        key = tf.slice(keys, [start, 0], [columns, -1])
        other = tf.slice(key_label, [start], [columns])
        is_key = other < NONE

        def masks(label):
            negative = (label[:, tf.newaxis] != other) & is_key
            return tf.where(negative, 0.0, _MASKED)

        def sums():
            values = tf.matmul(query, key, transpose_b=True)
            values = tf.cast(values, tf.float32)
            apart = (other[-1] < low) | (high < other[0])
            values = tf.cond(
                apart & is_key[-1],
                lambda: values,
                lambda: values
                + tf.cond(
                    few,
                    lambda: tf.gather(masks(names), rank),
                    lambda: masks(label),
                ),
            )
            share = tf.nn.softmax(values)
            scale = _scale(values, share, label, other)
            mean = tf.matmul(tf.cast(share, key.dtype), key)
            mean = tf.cast(mean, tf.float32)
            return total + scale, weighted + scale * mean

        one_class = (low == high) & (low == other[0]) & (low == other[-1])
        added = tf.cond(one_class, lambda: (total, weighted), sums)
        return start + columns, *added

    zeros = tf.zeros(query.shape, tf.float32)
    _, total, weighted = tf.while_loop(
        lambda start, *_: (start < num_keys) & (low < NONE),
        add,
        (0, zeros[:, :1], zeros),
        parallel_iterations=1,
    )
    return total[:, 0], tf.math.divide_no_nan(weighted, total)


def _scale(values, share, label, other):
    """float32 [rows, 1], the sum of a tile's exponentials.

    From one column that is not masked: the first one, or for rows of its label
    the first one of another label. If that is none, nor are those behind it.
    """
    columns = other.shape[0]
    second = tf.math.count_nonzero(other == other[0], dtype=tf.int32)
    second = tf.minimum(second, columns - 1)
    own = (label == other[0])[:, tf.newaxis]

    def pick(values):
        behind = tf.slice(values, [0, second], [-1, 1])
        return tf.where(own, behind, values[:, :1])

    value = pick(values)
    return tf.where(
        value > 0.5 * _MASKED, tf.exp(value) / pick(share), tf.zeros_like(value)
    )
