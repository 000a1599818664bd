# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.networks.layers import convolution


def oracle(x, kernel, stride, dilation):
    """Zero padding of `dilation` on every side, written as loops."""
    margin = [(0, 0), (dilation, dilation), (dilation, dilation), (0, 0)]
    padded = np.pad(x, margin)
    rows = range(0, x.shape[1], stride)
    columns = range(0, x.shape[2], stride)
    result = np.zeros((x.shape[0], len(rows), len(columns), kernel.shape[3]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = padded[
                :,
                row : row + 2 * dilation + 1 : dilation,
                column : column + 2 * dilation + 1 : dilation,
            ]
            result[:, i, j] = np.tensordot(window, kernel, 3)
    return result


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 3)])
def test_padding_is_symmetric(size, stride, dilation):
    x = np.random.RandomState(0).randn(2, *size, 3).astype(np.float32)
    layer = convolution.ConvBatchNorm(
        4, 3, strides=stride, dilation=dilation, activation=None
    )
    for call in (layer, tf.function(layer)):
        found = call(x) * np.sqrt(1 + 1e-5)
        expected = oracle(x, layer.convolution.kernel.numpy(), stride, dilation)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_kaiming_normal_is_not_cut_off():
    values = convolution.kaiming_normal()([3, 3, 64, 64]).numpy()
    std = np.sqrt(2 / (9 * 64))
    np.testing.assert_allclose(values.std(), std, rtol=0.02)
    assert np.abs(values).max() > 3 * std
