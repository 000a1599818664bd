# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf

from tfseg.networks.encoders import densenet
from tfseg.networks.layers import batch_norm

# Parameters that torchvision states, with a classifier of 1000 classes on this
# many channels.
TORCHVISION = {
    121: (7978856, 1024),
    161: (28681000, 2208),
    169: (14149480, 1664),
    201: (20013928, 1920),
}


@functools.lru_cache(maxsize=None)
def encoder():
    return densenet.build(depth=121)


def randomize(layer, seed=0):
    """Weights and statistics with which every variable matters."""
    random = np.random.RandomState(seed)
    for variable in layer.variables:
        shift = 1.0 if variable.name.endswith("variance:0") else 0.0
        variable.assign(shift + random.uniform(0.1, 0.9, variable.shape) - 0.3)


def normalized(x, layer):
    gamma, beta, mean, variance = layer.get_weights()
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def convolved(x, kernel):
    """Same size, zeros outside."""
    margin = kernel.shape[0] // 2
    padded = np.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    height, width = x.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )


def relu(x):
    return np.maximum(x, 0)


def parameters(stem, growth, stages):
    """By hand: kernels, and gamma and beta of the BatchNorms."""
    total, channels = 3 * 7 * 7 * stem + 2 * stem, stem
    for index, layers in enumerate(stages):
        if index:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
        for _ in range(layers):
            total += 2 * channels + channels * 4 * growth
            total += 2 * 4 * growth + 9 * 4 * growth * growth
            channels += growth
    return total + 2 * channels, channels


@pytest.mark.parametrize("depth", TORCHVISION)
def test_parameters_are_those_of_torchvision(depth):
    stated, channels = TORCHVISION[depth]
    features = stated - 1000 * channels - 1000
    assert parameters(*densenet.LAYOUTS[depth]) == (features, channels)
    assert densenet.stage_channels(depth)[-1] == channels
    if depth == 121:
        trained = encoder().trainable_variables
        assert sum(int(tf.size(v)) for v in trained) == features
        assert [len(s.dense_layers) for s in encoder().stages] == [
            6,
            12,
            24,
            16,
        ]


def test_channels_of_the_features():
    assert densenet.stage_channels(161) == [96, 384, 768, 2112, 2208]
    assert encoder().feature_channels == {
        "stride2": 64,
        "stride4": 256,
        "stride8": 512,
        "stride16": 1024,
        "stride32": 1024,
    }


@pytest.mark.parametrize(
    "image, expected",
    [
        # The pooling of a transition leaves an odd last row out.
        ((33, 49), [(17, 25), (9, 13), (4, 6), (2, 3), (1, 1)]),
        ((1, 20), [(1, 10), (1, 5), (1, 2), (1, 1), (1, 1)]),
    ],
)
def test_sizes_of_the_features(image, expected):
    x = np.random.RandomState(0).uniform(0, 255, (1, *image, 3))
    features = encoder()(x.astype(np.float32))
    names = list(encoder().feature_channels)
    assert [tuple(features[name].shape[1:3]) for name in names] == expected


def test_features_are_what_follows_each_stage():
    x = np.random.RandomState(0).uniform(0, 255, (1, 33, 49, 3))
    features = encoder()(x.astype(np.float32))
    features.pop("image_size")
    x, *maps = (feature.numpy() for feature in features.values())
    assert x.min() == 0
    # 3x3 max pooling with stride 2; after a ReLU padding may be zero.
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    shifts = [(i, j) for i in range(3) for j in range(3)]
    x = np.max([x[:, i : i + 17 : 2, j : j + 25 : 2] for i, j in shifts], 0)
    for index, expected in enumerate(maps):
        x = encoder().stages[index](x)
        if index == 3:
            x = relu(normalized(x, encoder().norm))
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4)
        x = expected


def test_convolutions_are_strided_in_the_stem_alone():
    layers = [
        layer
        for layer in encoder().submodules
        if isinstance(layer, tf.keras.layers.Conv2D)
    ]
    strided = [layer for layer in layers if layer.strides != (1, 1)]
    assert strided == [encoder().stem.convolution]
    assert strided[0].strides == (2, 2) and strided[0].kernel_size == (7, 7)
    assert len(layers) == 1 + 2 * 58 + 3
    assert {layer.dilation_rate for layer in layers} == {(1, 1)}


def test_dense_layer_is_the_oracle():
    layer = densenet.DenseLayer(3, batch_norm.factory())
    x = np.random.RandomState(1).randn(2, 4, 5, 6).astype(np.float32)
    layer(x)
    randomize(layer)
    kernel1, kernel2 = layer.conv1.kernel.numpy(), layer.conv2.kernel.numpy()
    assert kernel1.shape == (1, 1, 6, 12) and kernel2.shape == (3, 3, 12, 3)
    y = convolved(relu(normalized(x, layer.norm1)), kernel1)
    y = convolved(relu(normalized(y, layer.norm2)), kernel2)
    np.testing.assert_allclose(layer(x), y, rtol=1e-4, atol=1e-5)


def test_stage_is_a_transition_and_what_the_layers_add():
    stage = densenet.Stage(
        densenet.Transition(3, batch_norm.factory()),
        [densenet.DenseLayer(2, batch_norm.factory()) for _ in range(2)],
    )
    x = np.random.RandomState(1).randn(2, 5, 7, 6).astype(np.float32)
    stage(x)
    randomize(stage)
    transition = stage.transition
    y = relu(normalized(x, transition.norm))
    y = convolved(y, transition.conv.kernel.numpy())
    y = y[:, :4, :6].reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
    np.testing.assert_allclose(transition(x), y, rtol=1e-4, atol=1e-5)
    for layer in stage.dense_layers:
        y = np.concatenate([y, layer(y)], -1)
    np.testing.assert_allclose(stage(x), y, rtol=1e-4, atol=1e-5)


def test_halve_keeps_a_lone_row():
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 5, 1)
    for call in (densenet.halve, tf.function(densenet.halve)):
        np.testing.assert_allclose(np.ravel(call(x)), [0.5, 2.5])
    np.testing.assert_allclose(np.ravel(densenet.halve(x[:, :, :1])), [0])


def test_kernels_start_kaiming_normal_and_norms_as_identity():
    for layer in encoder().stages[3].dense_layers[-1:]:
        for conv, fan_in in ((layer.conv1, 992), (layer.conv2, 9 * 128)):
            kernel = conv.kernel.numpy()
            expected = np.sqrt(2 / fan_in)
            np.testing.assert_allclose(kernel.std(), expected, rtol=0.02)
            # Not cut off at two standard deviations.
            assert np.abs(kernel).max() > 3 * expected
        gamma, beta = layer.norm1.gamma, layer.norm1.beta
        assert (gamma.numpy() == 1).all() and (beta.numpy() == 0).all()
        assert layer.norm1.epsilon == 1e-5 and layer.norm1.momentum == 0.9


def test_bad_depth_is_named():
    with pytest.raises(
        ValueError, match="`depth` must be one of 121, 161, 169, 201.*depth=50"
    ):
        densenet.build(depth=50)
