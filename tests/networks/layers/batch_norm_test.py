# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.networks.layers import batch_norm


def test_running_statistics_are_those_of_pytorch():
    x = np.random.RandomState(0).randn(2, 3, 4, 5).astype(np.float32) * 3 + 2
    for call in (lambda layer: layer, tf.function):
        layer = batch_norm.factory()()
        found = call(layer)(x, training=True)
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        np.testing.assert_allclose(
            found, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-4
        )
        np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-4)
        # Unbiased: 24 values, 23 degrees of freedom.
        np.testing.assert_allclose(
            layer.moving_variance, 0.9 + 0.1 * variance * 24 / 23, rtol=1e-4
        )


def test_frozen_uses_and_keeps_its_statistics():
    layer = batch_norm.factory(frozen=True)()
    x = np.random.RandomState(0).randn(2, 3, 4, 5).astype(np.float32) * 3 + 2
    for call in (layer, tf.function(layer)):
        np.testing.assert_allclose(call(x, training=True), x, rtol=1e-4)
    assert layer.trainable_variables == []
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(5))


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_out_of_range(momentum):
    with pytest.raises(ValueError, match=f"batch_norm.momentum={momentum}"):
        batch_norm.factory(momentum=momentum)
