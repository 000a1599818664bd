# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops import log_sum_exp

ROWS, CHANNELS = 64, 8


def _expected(query, label, keys, key_label):
    """Values and gradients of their sum, float64."""
    query, keys = np.float64(query), np.float64(keys)
    negative = (label[:, None] != key_label) & (key_label >= 0)
    exponential = np.where(negative, np.exp(query @ keys.T), 0)
    total = exponential.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        gradient = exponential @ keys / total[:, None]
        return np.log(total), np.where(total[:, None] > 0, gradient, 0)


def _eager(query, order, label, keys, key_label, columns):
    with tf.GradientTape() as tape:
        tape.watch(query)
        value = log_sum_exp.over_other_labels(
            tf.gather(query, order),
            label,
            keys,
            key_label,
            rows=ROWS,
            columns=columns,
            dtype=tf.float32,
        )
        # Rows of padding come after these.
        value = value[: query.shape[0]]
    upstream = tf.ones_like(value)
    return value, tape.gradient(value, query, output_gradients=upstream)


# One for all tests, so that the same sizes are traced once.
_graph = tf.function(_eager)


def _computed(run, query, label, keys, key_label, columns):
    """The same, in the order of the rows that are given."""
    order, sorted_label = log_sum_exp.sort(tf.constant(label), ROWS)
    tensors = map(tf.constant, (keys, key_label))
    query = tf.constant(query)
    value, gradient = run(query, order, sorted_label, *tensors, columns)
    value = tf.scatter_nd(order[: len(label), None], value, [len(label)])
    return value.numpy(), tf.convert_to_tensor(gradient).numpy()


@pytest.mark.parametrize(
    "run, columns", [(_graph, 7), (_graph, 40), (_graph, 1000), (_eager, 40)]
)
@pytest.mark.parametrize("labels", [1, 2, 31, 33, 64, 500])
@pytest.mark.parametrize("rows", [1, 64, 150])
def test_values_and_gradients_for_few_and_many_labels(
    run, columns, labels, rows
):
    random = np.random.default_rng(labels + rows)
    query = random.standard_normal((rows, CHANNELS), np.float32)
    keys = random.standard_normal((130, CHANNELS), np.float32)
    label = random.integers(0, labels, rows, np.int32)
    # Some rows of the bank are empty, and one label has no key.
    key_label = random.integers(-1, labels, 130, np.int32)
    key_label[key_label == label[0]] = -1
    data = query, label, keys, key_label
    value, gradient = _computed(run, *data, columns)
    expected, slope = _expected(*data)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-5)


def test_a_label_alone_in_its_tile_and_padding_behind_it():
    # 3 keys of the row's label, then nothing up to the end of the tile.
    query = np.ones([1, CHANNELS], np.float32)
    keys = np.ones([3, CHANNELS], np.float32)
    label, key_label = np.int32([4]), np.int32([4, 4, 4])
    value, gradient = _computed(_graph, query, label, keys, key_label, 3)
    assert value[0] == -np.inf
    np.testing.assert_array_equal(gradient, 0)
    key_label = np.int32([4, -1, -1])
    value, gradient = _computed(_graph, query, label, keys, key_label, 3)
    assert value[0] == -np.inf
    np.testing.assert_array_equal(gradient, 0)
