# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.networks import full_hrnet
from tfseg.networks import hrnet
from tfseg.networks.encoders import hrnet as encoders
from tfseg.networks.layers import batch_norm


def network():
    return full_hrnet.network()


def norms(model):
    return [
        layer
        for layer in model.submodules
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


@pytest.mark.parametrize(
    "width, expected", [(18, 9641119), (32, 29546515), (48, 65859379)]
)
def test_parameters(width, expected):
    # With 19 classes. Counted in the published architecture, written in
    # PyTorch beside this repository; the authors state 65.859 million for W48.
    shapes = [v.shape for v in network().trainable_variables]
    scaled = [
        [n // 18 * width if n % 18 == 0 else n for n in shape]
        for shape in shapes
    ]
    assert sum(int(np.prod(shape)) for shape in scaled) == expected


def test_batch_norm_is_that_of_the_paper():
    # Stem 2, stage 1 13, branches 8 per branch, transitions and fusion, head.
    assert len(norms(network())) == 2 + 13 + 8 * 26 + 4 + 2 + 4 * 7 + 3 * 16 + 1
    for layer in norms(network()):
        assert layer.momentum == 0.99 and layer.epsilon == 1e-5


def make_decoder(align_corners):
    decoder = hrnet.Decoder(
        3,
        channels={"stride4": 2, "stride8": 3, "stride16": 4},
        batch_norm=batch_norm.factory(),
        align_corners=align_corners,
    )
    random = np.random.RandomState(0)
    features = {
        "stride4": random.randn(2, 9, 13, 2).astype(np.float32),
        "stride8": random.randn(2, 5, 7, 3).astype(np.float32),
        "stride16": random.randn(2, 3, 4, 4).astype(np.float32),
        "image_size": tf.constant([33, 49]),
    }
    decoder(features)
    for variable in decoder.variables:
        variable.assign(random.uniform(0.2, 1.0, variable.shape))
        if variable.shape.rank > 1:
            variable.assign_sub(0.6 * tf.ones_like(variable))
    return decoder, features


def resized(x, size, align_corners):
    for axis, after in zip((1, 2), size):
        before = x.shape[axis]
        if align_corners:
            position = np.linspace(0, before - 1, after)
        else:
            position = (np.arange(after) + 0.5) * before / after - 0.5
        x = np.apply_along_axis(
            lambda row: np.interp(position, np.arange(len(row)), row), axis, x
        )
    return x


@pytest.mark.parametrize("align_corners", [True, False])
def test_decoder_is_the_oracle(align_corners):
    decoder, features = make_decoder(align_corners)
    maps = [
        resized(features[name], (9, 13), align_corners)
        for name in ("stride4", "stride8", "stride16")
    ]
    x = np.concatenate(maps, -1) @ decoder.merge.kernel.numpy()[0, 0]
    gamma, beta, mean, variance = decoder.merge_norm.get_weights()
    x = (x + decoder.merge.bias.numpy() - mean) / np.sqrt(variance + 1e-5)
    x = np.maximum(gamma * x + beta, 0)
    embedding = decoder.embed(features)
    np.testing.assert_allclose(embedding, x, rtol=1e-4, atol=1e-5)
    x = x @ decoder.classifier.kernel.numpy()[0, 0]
    x += decoder.classifier.bias.numpy()
    small = decoder.logits(embedding)
    np.testing.assert_allclose(small, x, rtol=1e-4, atol=1e-4)
    x = resized(x, (33, 49), align_corners)
    np.testing.assert_allclose(decoder(features), x, rtol=1e-4, atol=1e-4)


def test_head_starts_from_narrow_normals_and_pytorchs_biases():
    merge, classifier = network().decoder.merge, network().decoder.classifier
    assert merge.kernel.shape == (1, 1, 270, 270)
    assert classifier.kernel.shape == (1, 1, 270, 19)
    for layer in (merge, classifier):
        kernel, bias = layer.kernel.numpy(), np.abs(layer.bias.numpy())
        np.testing.assert_allclose(kernel.std(), 0.001, rtol=0.05)
        assert 0.8 * 270**-0.5 < bias.max() < 270**-0.5


def test_options_reach_encoder_and_decoder(monkeypatch):
    monkeypatch.setattr(encoders, "BLOCKS", 1)
    monkeypatch.setattr(encoders, "MODULES", (1, 1, 1))
    small = hrnet.build(
        num_classes=2,
        width=32,
        align_corners=False,
        batch_norm=dict(momentum=0.9, frozen=True),
    )
    assert small.encoder.architecture == "hrnet_w32"
    assert not small.decoder.align_corners
    assert not any(
        module.align_corners
        for stage in small.encoder.stages
        for module in stage.modules
    )
    assert {layer.momentum for layer in norms(small)} == {0.9}
    assert not any(layer.trainable for layer in norms(small.encoder))
    assert small.decoder.merge_norm.trainable


def test_logits_have_the_size_of_an_odd_image():
    image = np.random.RandomState(0).uniform(0, 255, (1, 33, 49, 3))
    features = network().encoder(image.astype(np.float32))
    assert network().decoder.embed(features).shape == (1, 9, 13, 270)
    assert network().decoder(features).shape == (1, 33, 49, 19)
    assert network().encoder.top == "stride32"


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(width=40), "`width` must be one of 18, 32, 48"),
        (dict(normalization="tf"), "`normalization` must be one of"),
        (dict(batch_norm=dict(momentum=1.0)), "`batch_norm.momentum` must be"),
        (dict(num_classes=1), "Received: num_classes=1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        hrnet.build(**{"num_classes": 2, **options})
