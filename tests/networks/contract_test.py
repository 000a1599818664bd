# SPDX-License-Identifier: Apache-2.0
"""What holds for every network, also for one that is added later."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.networks.leaves import NUM_CLASSES, build, images, shared
from tfseg import lookup
from tfseg.networks import base

SIZES = [(64, 64), (33, 49), (1, 1)]


def test_all_variables_exist_after_construction(leaf):
    network = shared(leaf)
    assert isinstance(network, base.Network)
    assert network.num_classes == NUM_CLASSES
    assert isinstance(network.encoder, base.Encoder)
    assert isinstance(network.decoder, base.Decoder)
    count = len(network.variables)
    network(images(1, 17, 17, 3))
    assert len(network.variables) == count > 0


def test_float32_logits_at_input_size_from_one_trace(leaf):
    network = shared(leaf)
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def infer(image):
        traces.append(image)
        return network(image, training=False)

    for size in SIZES:
        image = images(1, *size, 3)
        logits = infer(image)
        assert logits.dtype == tf.float32
        assert logits.shape == (1, *size, NUM_CLASSES)
        assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits, network(image), rtol=1e-4, atol=1e-4)
    assert len(traces) == 1


def test_encoder_tells_what_it_returns(leaf):
    encoder = shared(leaf).encoder
    features = encoder(images(1, 64, 32, 3))
    np.testing.assert_array_equal(features.pop("image_size"), [64, 32])
    assert encoder.pretrained_variables == []
    assert {k: v.shape[3] for k, v in features.items()} == dict(
        encoder.feature_channels
    )
    for name, feature in features.items():
        stride = int(name[len("stride") :])
        # Max pooling that rounds sizes up may add one.
        assert feature.shape[1] - 64 // stride in (0, 1)
        assert feature.shape[2] - 32 // stride in (0, 1)
    assert encoder.top == f"stride{encoder.output_stride}"
    assert encoder.top == list(features)[-1]


def test_a_decoder_embeds_and_classifies(leaf):
    network = shared(leaf)
    image = images(1, 32, 48, 3)
    features = network.encoder(image, training=False)
    expected = network.decoder(features)
    np.testing.assert_array_equal(network(image, training=False), expected)
    embedding = network.decoder.embed(features)
    found = network.decoder.classify(embedding, features["image_size"])
    np.testing.assert_array_equal(found, expected)
    small = network.decoder.logits(embedding)
    assert small.dtype == tf.float32 and small.shape[3] == NUM_CLASSES


def test_a_new_decoder_has_the_form_but_not_the_values(leaf):
    network = shared(leaf)
    other = network.new_decoder()
    old, new = network.decoder.variables, other.variables
    assert [v.shape for v in old] == [v.shape for v in new]
    assert not {v.ref() for v in old} & {v.ref() for v in new}
    kernels = [(a, b) for a, b in zip(old, new) if a.shape.rank == 4]
    assert all((a.numpy() != b.numpy()).any() for a, b in kernels)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_starts_alike_and_gives_float32_logits(leaf, policy):
    exact = shared(leaf)
    keras.mixed_precision.set_global_policy(policy)
    try:
        network = build(leaf)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert_same_values_in_other_variables(network, exact)
    image = images(1, 17, 19, 3)
    # bfloat16 cannot tell these two before they are normalized.
    first, second = (
        network.encoder(np.full_like(image, value))[network.encoder.top]
        for value in (200.0, 200.4)
    )
    assert first.dtype.name == policy[len("mixed_") :]
    assert (first.numpy() != second.numpy()).any()
    logits, expected = network(image), exact(image)
    assert logits.dtype == tf.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, atol=0.1 * scale)


def assert_same_values_in_other_variables(again, first):
    """The seed decides them, not the precision: variables are float32."""
    assert len(again.variables) == len(first.variables)
    for a, b in zip(again.variables, first.variables):
        np.testing.assert_array_equal(a, b)
    kernels = [v for v in again.trainable_variables if v.shape.rank == 4]
    starts = {v.numpy().ravel()[0] for v in kernels}
    assert len(starts) == len(kernels)
    theirs, ours = (n.trainable_variables[0] for n in (again, first))
    value = ours.numpy()
    theirs.assign_add(tf.ones_like(value))
    np.testing.assert_array_equal(ours, value)
    theirs.assign(value)


def test_gradients_reach_every_variable_and_statistics_move(leaf):
    network = shared(leaf)
    statistics = [v.numpy() for v in network.non_trainable_variables]
    network(images(2, 33, 31, 3), training=False)
    for old, variable in zip(statistics, network.non_trainable_variables):
        np.testing.assert_array_equal(old, variable)
    with tf.GradientTape() as tape:
        logits = network(images(2, 33, 31, 3), training=True)
        loss = tf.reduce_mean(
            logits * tf.random.stateless_normal(tf.shape(logits), seed=(0, 1))
        )
    variables = network.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name
        assert np.abs(gradient).max() > 0, variable.name
    for old, variable in zip(statistics, network.non_trainable_variables):
        assert (old != variable.numpy()).any(), variable.name
        variable.assign(old)


def test_one_pixel_trains_without_nan(leaf):
    network = shared(leaf)
    saved = network.get_weights()
    assert np.isfinite(network(images(1, 1, 1, 3), training=True)).all()
    assert all(np.isfinite(v).all() for v in network.get_weights())
    network.set_weights(saved)


@pytest.mark.parametrize(
    "shape", [(1, 8, 8, 4), (1, 8, 8, 1), (1, 0, 8, 3), (8, 8, 3)]
)
def test_bad_image_is_named(leaf, shape):
    with pytest.raises(ValueError, match="`image` must be"):
        shared(leaf).encoder(np.zeros(shape, np.float32))


def test_a_single_class_is_refused(leaf):
    with pytest.raises(ValueError, match="Received: num_classes=1"):
        lookup.module("networks", leaf).build(num_classes=1)
