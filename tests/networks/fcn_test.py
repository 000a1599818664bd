# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg.networks import fcn


def test_number_of_parameters():
    # Kernels: 9*3*16 + 9*16*32 + 9*32*32 + 9*32*64 + 2*9*64*64 = 106,416 in
    # the encoder, 64*32 + 9*64*32 + 9*48*16 = 27,392 in the decoder; gamma
    # and beta of 16+32+32+3*64 + 32+32+16 = 352 channels; 16*11 + 11.
    network = fcn.build(num_classes=11)
    count = sum(int(tf.size(v)) for v in network.trainable_variables)
    assert count == 106416 + 27392 + 2 * 352 + 187


def test_learns_to_tell_bright_from_dark():
    keras.utils.set_random_seed(0)
    network = fcn.build(num_classes=2, width=4)
    optimizer = keras.optimizers.Adam(0.03)
    random = np.random.RandomState(0)
    label = np.repeat(
        np.repeat(random.randint(0, 2, (4, 4, 4)), 8, axis=1), 8, axis=2
    )
    image = (label[..., None] * 100 + 80 + random.randn(4, 32, 32, 3)).astype(
        np.float32
    )

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    label, network(image, training=True)
                )
            )
        optimizer.minimize(loss, network.trainable_variables, tape=tape)
        return loss

    first = step()
    for _ in range(40):
        last = step()
    assert last < 0.25 * first


def test_xla_gives_the_same_logits_at_odd_sizes():
    network = fcn.build(num_classes=3, width=4)
    image = np.random.RandomState(0).uniform(0, 255, (1, 33, 49, 3))
    compiled = tf.function(network, jit_compile=True)
    np.testing.assert_allclose(
        compiled(image, training=False),
        network(image, training=False),
        atol=1e-4,
    )


def test_width_must_be_positive():
    with pytest.raises(ValueError, match="Received: width=0"):
        fcn.build(num_classes=2, width=0)
