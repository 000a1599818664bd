# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.networks.layers import sub_pixel


def shuffle(x):
    """torch.nn.PixelShuffle(2), written as loops over NHWC."""
    batch, height, width, outputs = x.shape
    result = np.zeros((batch, 2 * height, 2 * width, outputs // 4), x.dtype)
    for c in range(outputs // 4):
        for i in range(2):
            for j in range(2):
                result[:, i::2, j::2, c] = x[..., 4 * c + 2 * i + j]
    return result


def test_the_oracle_is_the_official_shuffle():
    vectors = golden.load("pixelshuffle_decoder")
    np.testing.assert_array_equal(
        shuffle(vectors["shuffle_in"]), vectors["shuffle_out"]
    )


@pytest.mark.parametrize("activation", ["relu", None])
def test_channels_come_in_the_order_of_pytorch(activation):
    random = np.random.RandomState(0)
    kernel = random.randn(3, 12).astype(np.float32)
    bias = random.randn(12).astype(np.float32)
    x = random.randn(2, 5, 4, 3).astype(np.float32)
    layer = sub_pixel.SubPixel(3, activation)
    layer(x)
    layer.set_weights([kernel[None, None], bias])
    expected = shuffle(x @ kernel + bias)
    if activation:
        expected = np.maximum(expected, 0)
    for call in (layer, tf.function(layer)):
        np.testing.assert_allclose(call(x), expected, atol=1e-5)


def test_icnr_starts_four_equal_sub_pixels():
    values = sub_pixel.icnr([1, 1, 64, 256]).numpy()[0, 0]
    groups = values.reshape(64, 64, 4)
    np.testing.assert_array_equal(groups, groups[..., :1].repeat(4, -1))
    np.testing.assert_allclose(values.std(), np.sqrt(2 / 64), rtol=0.05)
    assert len(np.unique(values)) == 64 * 64


def test_starts_as_in_pytorch():
    layer = sub_pixel.SubPixel(64)
    x = np.random.RandomState(0).randn(1, 2, 2, 64).astype(np.float32)
    layer(x)
    bias = layer.bias.numpy()
    assert bias.shape == (256,) and np.abs(bias).max() <= 1 / 8
    assert bias.std() > 0.9 * (1 / 8) / np.sqrt(3)
    layer.bias.assign(tf.zeros_like(layer.bias))
    found = layer(x).numpy()
    np.testing.assert_allclose(found[:, ::2, ::2], found[:, 1::2, 1::2])
