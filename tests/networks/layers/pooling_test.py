# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.networks.layers import pooling


def oracle(x, size, stride, margin, ceil_mode):
    """The definition of torch.nn.MaxPool2d, window by window."""

    def starts(length):
        excess = length + 2 * margin - size
        count = excess // stride + 1
        if ceil_mode and excess % stride:
            if count * stride < length + margin:
                count += 1
        return [i * stride - margin for i in range(count)]

    rows, columns = starts(x.shape[1]), starts(x.shape[2])
    result = np.zeros((x.shape[0], len(rows), len(columns), x.shape[3]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = x[
                :,
                max(row, 0) : row + size,
                max(column, 0) : column + size,
            ]
            result[:, i, j] = window.max((1, 2))
    return result


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("size", [(8, 9), (7, 6), (2, 3), (161, 160)])
@pytest.mark.parametrize("window", [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_max_pooling_is_pytorch_s(size, window, ceil_mode):
    # Negative values: zeros as padding would show.
    x = -np.random.RandomState(0).uniform(1, 2, (2, *size, 3))
    x = x.astype(np.float32)
    layer = pooling.MaxPool2D(*window, ceil_mode=ceil_mode)
    expected = oracle(x, *window, ceil_mode)
    signature = [tf.TensorSpec([None, None, None, 3])]
    for call in (layer, tf.function(layer, input_signature=signature)):
        np.testing.assert_array_equal(call(x), expected)


def test_sizes_that_only_ceil_mode_gives():
    # (160 + 2 - 3) / 2 = 79.5: PyTorch gives 80 or, rounded up, 81.
    x = np.zeros([1, 160, 161, 1], np.float32)
    assert pooling.MaxPool2D(3, 2, 1)(x).shape[1:3] == (80, 81)
    assert pooling.MaxPool2D(3, 2, 1, True)(x).shape[1:3] == (81, 81)
