# SPDX-License-Identifier: Apache-2.0
import functools
import math
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg import strategy
from tfseg.networks.encoders import light
from tfseg.networks.layers import batch_norm

SMALL = "mobilenet_v3_small"
SIZE = (33, 49)


@functools.lru_cache(maxsize=None)
def built(name):
    keras.utils.set_random_seed(0)
    return light.build(name=name, batch_norm=batch_norm.factory(epsilon=1e-3))


# The same blocks, but few and narrow.
TINY_MOBILENET = (
    (3, 1, 8, 0.25, "relu", 2),
    (3, 2, 8, None, "relu", 2),
    (5, 2, 8, 0.25, "hard_swish", 1),
    (5, 2, 8, 0.25, "hard_swish", 2),
    (5, 2, 16, None, "hard_swish", 2),
)
TINY_EFFICIENTNET = (
    ("fused", 1, 8, 8, 1, 0, 1),
    ("fused", 2, 8, 8, 2, 0, 2),
    ("unfused", 2, 8, 8, 2, 0.25, 2),
    ("unfused", 1, 8, 8, 2, 0.25, 2),
    ("unfused", 1, 8, 16, 2, 0.25, 2),
)


def make_tiny(family, **options):
    """A tiny encoder; takes options of `batch_norm.factory`."""
    with mock.patch.dict(
        light.MOBILENET_V3, tiny=TINY_MOBILENET
    ), mock.patch.dict(light.EFFICIENTNET_V2, tiny=TINY_EFFICIENTNET):
        backbone = (
            light.mobilenet_v3("tiny")
            if family == "mobilenet"
            else light.efficientnet_v2("tiny", width=0.5)
        )
    return light.KerasCV(
        backbone,
        batch_norm=batch_norm.factory(**options),
        normalization="torch",
    )


# For tests to which its weights do not matter, which they may change.
shared_tiny = functools.lru_cache(maxsize=None)(make_tiny)


class Tiny:
    def __init__(self, family):
        self.make = functools.partial(make_tiny, family)
        self.shared = functools.partial(shared_tiny, family)


@pytest.fixture(params=["mobilenet", "efficientnet"])
def tiny(request):
    return Tiny(request.param)


def images(*shape):
    return np.random.RandomState(0).uniform(0, 255, shape).astype(np.float32)


def norms(encoder):
    """The BatchNorm layers that are in use."""
    return [
        layer
        for layer in encoder.submodules
        if isinstance(layer, keras.layers.BatchNormalization) and layer.built
    ]


def count(variables):
    return sum(int(tf.size(v)) for v in variables)


# Trainable ones as published with torchvision (without the classifiers of
# MobileNetV3, 1,615,848 and 2,511,080, and EfficientNetV2-S, 1,281,000), all
# of them as in Keras' tables.
@pytest.mark.parametrize(
    "name, trainable, total",
    [
        (SMALL, 2542856 - 1615848, 939120),
        ("mobilenet_v3_large", 5483032 - 2511080, 2996352),
        ("efficientnet_v2_b0", 5858704, 5919312),
    ],
)
def test_number_of_parameters(name, trainable, total):
    encoder = built(name)
    assert count(encoder.trainable_variables) == trainable
    assert count(encoder.variables) == total
    assert len({v.ref() for v in encoder.variables}) == len(encoder.variables)


@pytest.mark.parametrize(
    "name, total",
    [
        ("efficientnet_v2_b0", 5919312),
        ("efficientnet_v2_b1", 6931124),
        ("efficientnet_v2_b2", 8769374),
        ("efficientnet_v2_b3", 12930622),
        ("efficientnet_v2_s", 20331360),
    ],
)
def test_layouts_add_up_to_what_keras_lists(name, total):
    family, width, depth = (*light.BACKBONES[name].args, 1.0, 1.0)[:3]

    def scaled(filters):
        return max(8, int(filters * width + 4) // 8 * 8)

    def block(kind, before, after, expansion, ratio):
        middle = before * expansion
        norm, squeezed = 4, int(before * ratio)
        if kind == "fused" and expansion == 1:
            return (9 * before + norm) * after
        first = 9 * before if kind == "fused" else before + norm + 9
        gate = squeezed * (2 * middle + 1) + middle if ratio else 0
        return middle * (first + norm) + gate + (middle + norm) * after

    stages = light.EFFICIENTNET_V2[family]
    found = (9 * 3 + 4) * scaled(stages[0][2])
    for kind, repeats, before, after, expansion, ratio, _ in stages:
        before, after = scaled(before), scaled(after)
        for _ in range(math.ceil(repeats * depth)):
            found += block(kind, before, after, expansion, ratio)
            before = after
    found += (after + 4) * scaled(1280)
    assert found == total


@pytest.mark.parametrize(
    "name, other",
    [
        (SMALL, keras.applications.MobileNetV3Small),
        ("efficientnet_v2_b0", keras.applications.EfficientNetV2B0),
    ],
)
def test_features_are_those_of_keras_applications(name, other):
    encoder = built(name)
    twin = other(
        include_top=False,
        weights=None,
        input_shape=(*SIZE, 3),
        include_preprocessing=False,
    )
    random = np.random.RandomState(0)
    for variables, twins in (
        (encoder.trainable_variables, twin.trainable_variables),
        (encoder.non_trainable_variables, twin.non_trainable_variables),
    ):
        for a, b in zip(variables, twins):
            assert a.shape == b.shape
            value = random.uniform(0.8, 1.2, a.shape) * a.numpy()
            a.assign(value)
            b.assign(value)
    image = images(1, *SIZE, 3)
    expected = twin(encoder.normalize(image))
    found = encoder(image)["stride32"]
    assert np.std(expected) > 1e-4
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_any_size_from_one_trace_and_nothing_random(tiny):
    encoder = tiny.shared()
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def infer(image):
        traces.append(image)
        return encoder(image, training=False)

    for size in (SIZE, (1, 1), (2, 34)):
        features = infer(images(1, *size, 3))
        for key, channels in encoder.feature_channels.items():
            stride = int(key[len("stride") :])
            shape = [1, *(-(-side // stride) for side in size), channels]
            assert features[key].shape == shape
            assert np.isfinite(features[key]).all()
    assert len(traces) == 1
    image = images(2, *SIZE, 3)
    first, second = (encoder(image, training=True) for _ in range(2))
    np.testing.assert_array_equal(first["stride32"], second["stride32"])


def test_start_values_do_not_fade():
    encoder = built(SMALL)
    (kernel,) = (
        v for v in encoder.variables if v.name.startswith("Conv_1/kernel")
    )
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / 576), rtol=0.05)
    assert np.std(encoder(images(1, 64, 64, 3))["stride32"]) > 1e-4


def test_batch_norm_options_reach_every_layer(tiny):
    encoder = tiny.make(momentum=0.7, epsilon=1e-2, frozen=True)
    layers = norms(encoder)
    assert {(n.momentum, n.epsilon) for n in layers} == {(0.7, 1e-2)}
    # Neither gamma nor beta is trained.
    statistics = [v.numpy() for v in encoder.non_trainable_variables]
    assert len(statistics) == 4 * len(layers) > 40
    image = images(2, *SIZE, 3)
    features = encoder(image, training=True)
    inference = encoder(image, training=False)
    np.testing.assert_array_equal(features["stride32"], inference["stride32"])
    for a, b in zip(statistics, encoder.non_trainable_variables):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("tiny", ["mobilenet"], indirect=True)
def test_momentum_and_epsilon_are_used(tiny):
    image = images(2, *SIZE, 3)
    encoder = tiny.make(momentum=0.7, epsilon=3.0)
    layer = norms(encoder)[0]
    after = []
    for start in (0.0, 1.0):
        layer.moving_mean.assign(tf.fill(layer.moving_mean.shape, start))
        encoder(image, training=True)
        after.append(layer.moving_mean.numpy())
    np.testing.assert_allclose(after[1] - after[0], 0.7, rtol=1e-4)
    other = tiny.shared()
    other.set_weights(encoder.get_weights())
    for net in (encoder, other):
        norm = norms(net)[0]
        norm.moving_mean.assign(tf.zeros_like(norm.moving_mean))
        norm.moving_variance.assign(tf.ones_like(norm.moving_variance))
    x = tf.random.stateless_normal([1, 2, 2, layer.gamma.shape[0]], (0, 1))
    # 1 + 3 against 1 + 1e-5.
    np.testing.assert_allclose(
        2 * layer(x), norms(other)[0](x), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("tiny", ["mobilenet"], indirect=True)
def test_synchronized_statistics_are_those_of_the_whole_batch(tiny):
    image = images(4, *SIZE, 3)
    image[2:] *= 0.3
    alone = tiny.shared()
    two = strategy.build("mirrored", replicas=2)
    with two.scope():
        encoder = tiny.make(synchronized=True)
        encoder.set_weights(alone.get_weights())
    parts = two.experimental_distribute_values_from_function(
        lambda context: tf.constant(
            np.split(image, 2)[context.replica_id_in_sync_group]
        )
    )

    @tf.function
    def step(part):
        return encoder(part, training=True)["stride4"]

    found = two.experimental_local_results(two.run(step, args=(parts,)))
    expected = alone(image, training=True)["stride4"]
    np.testing.assert_allclose(tf.concat(found, 0), expected, atol=1e-4)
    for a, b in zip(norms(encoder), norms(alone)):
        np.testing.assert_allclose(a.moving_mean, b.moving_mean, atol=1e-4)


def test_saved_and_restored(tmp_path, tiny):
    encoder = tiny.shared()
    image = images(1, *SIZE, 3)
    expected = encoder(image)["stride32"]
    path = str(tmp_path / "encoder.weights.h5")
    encoder.save_weights(path)
    saved = tf.train.Checkpoint(model=encoder).save(str(tmp_path / "saved"))
    entries = [
        key
        for key, _ in tf.train.list_variables(saved)
        if key.endswith("VARIABLE_VALUE") and key.startswith("model/")
    ]
    assert len(entries) == len(encoder.variables)
    assert len({v.ref() for v in encoder.variables}) == len(entries)
    other = tiny.make()
    start = other.get_weights()
    for restore in (
        lambda other: other.load_weights(path),
        lambda other: tf.train.Checkpoint(model=other)
        .restore(saved)
        .assert_existing_objects_matched()
        .assert_consumed(),
    ):
        other.set_weights(start)
        assert (other(image)["stride32"] != expected).numpy().any()
        restore(other)
        np.testing.assert_array_equal(other(image)["stride32"], expected)


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match="'mobilenet_v3_small', .*'mit_b0'"):
        light.build(name="mobilenet_v2")
