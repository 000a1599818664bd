# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfseg.networks.layers import dropout

X = np.ones([40, 50], np.float32)


def test_keeps_the_mean_and_does_nothing_at_inference():
    layer = dropout.Dropout(0.2)
    for call in (layer, tf.function(layer)):
        np.testing.assert_array_equal(call(X), X)
        found = call(X, training=True).numpy()
        np.testing.assert_allclose(np.unique(found), [0, 1.25])
        np.testing.assert_allclose((found == 0).mean(), 0.2, atol=0.03)


def test_drops_whole_channels_of_each_image():
    layer = dropout.Dropout(0.5, whole_channels=True)
    x = np.ones([8, 3, 2, 16], np.float32)
    for call in (layer, tf.function(layer)):
        found = call(x, training=True).numpy()
        np.testing.assert_array_equal(found, found[:, :1, :1] * x)
        kept = found[:, 0, 0] > 0
        np.testing.assert_allclose(found.max(), 2)
        np.testing.assert_allclose(kept.mean(), 0.5, atol=0.2)
        assert len(np.unique(kept, axis=0)) > 1


def test_rate_zero_drops_nothing():
    np.testing.assert_array_equal(dropout.Dropout(0.0)(X, training=True), X)


def test_a_restored_layer_draws_what_would_have_come(tmp_path):
    layer = dropout.Dropout(0.5)
    layer(X, training=True)
    path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "checkpoint"))
    expected = layer(X, training=True)
    other = dropout.Dropout(0.5)
    assert (other(X, training=True).numpy() != expected.numpy()).any()
    tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other(X, training=True), expected)


def test_the_global_seed_decides():
    def draw():
        keras.utils.set_random_seed(5)
        return dropout.Dropout(0.5)(X, training=True)

    np.testing.assert_array_equal(draw(), draw())
