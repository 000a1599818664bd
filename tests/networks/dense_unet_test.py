# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.networks import dense_unet
from tfseg.networks.encoders import densenet
from tfseg.networks.layers import batch_norm

NAMES = ["stride2", "stride4", "stride8", "stride16", "stride32"]


@functools.lru_cache(maxsize=None)
def network():
    return dense_unet.build(num_classes=21, depth=121)


def count(variables):
    return sum(int(tf.size(v)) for v in variables)


def make_decoder(*channels, num_classes=2):
    """A decoder, features of an image of 33x49 for it, and its embedding."""
    decoder = dense_unet.Decoder(
        num_classes,
        channels=dict(zip(NAMES, channels)),
        batch_norm=batch_norm.factory(),
    )
    sizes = [(17, 25), (9, 13), (4, 6), (2, 3), (1, 1)]
    random = np.random.RandomState(0)
    features = {
        name: random.randn(2, *size, width).astype(np.float32)
        for name, size, width in zip(NAMES, sizes, channels)
    }
    features["image_size"] = tf.constant([33, 49])
    embedding = decoder.embed(features)
    decoder.classify(embedding, features["image_size"])
    return decoder, features, embedding


def by_hand(channels, num_classes):
    """Parameters of the decoder, with gamma and beta of each BatchNorm."""
    *skips, before, top = channels
    widths = [top, *skips[::-1], skips[0]]
    total = before * top + top
    for inputs, outputs in zip(widths, widths[1:]):
        total += 9 * inputs * outputs + 2 * outputs
    return total + 9 * skips[0] * 64 + 2 * 64 + 64 * num_classes + num_classes


def test_parameters():
    # Counted in the published architecture, written in PyTorch beside this
    # repository; those of the encoder are torchvision's.
    assert count(network().encoder.trainable_variables) == 6953856
    assert count(network().decoder.trainable_variables) == 7172309
    assert by_hand(network().encoder.feature_channels.values(), 21) == 7172309
    for depth, expected in ((161, 23055605), (169, 11203413), (201, 13694037)):
        assert by_hand(densenet.stage_channels(depth), 21) == expected


def test_widths_at_the_default_depth():
    decoder, _, embedding = make_decoder(96, 384, 768, 2112, 2208)
    assert decoder.widen.kernel.shape == (1, 1, 2112, 2208)
    assert [up.convolution.kernel.shape[2:] for up in decoder.ups[::-1]] == [
        (2208, 768),
        (768, 384),
        (384, 96),
        (96, 96),
    ]
    assert decoder.last.kernel.shape == (3, 3, 96, 64)
    assert embedding.shape == (2, 33, 49, 64)
    biased = [decoder.widen, decoder.classifier]
    assert {
        id(v) for v in decoder.trainable_variables if v.shape.rank == 1
    } == {
        id(v)
        for v in [layer.bias for layer in biased]
        + [v for up in decoder.ups for v in up.batch_norm.trainable_variables]
        + decoder.last_norm.trainable_variables
    }


@pytest.mark.parametrize(
    "size", [(10, 14), (9, 13), (3, 4), (5, 7), (1, 1), (17, 20)]
)
def test_nearest_is_pytorch_interpolate(size):
    vectors = golden.load("resize")
    expected = vectors[f"nearest_{size[0]}x{size[1]}"]
    for call in (
        dense_unet.nearest,
        tf.function(dense_unet.nearest),
        tf.function(dense_unet.nearest, jit_compile=True),
    ):
        np.testing.assert_array_equal(call(vectors["x"], size), expected)


def nearest(x, height, width):
    rows = np.arange(height) * x.shape[1] // height
    columns = np.arange(width) * x.shape[2] // width
    return x[:, rows][:, :, columns]


@pytest.mark.parametrize("before, after", [(1, 2), (2, 3), (4, 9), (25, 49)])
def test_nearest_and_its_gradient_are_their_definition(before, after):
    x = np.random.RandomState(0).randn(1, before, 3, 2).astype(np.float32)
    g = np.random.RandomState(1).randn(1, after, 5, 2).astype(np.float32)

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = dense_unet.nearest(x, (after, 5))
        return y, tape.gradient(y, x, g)

    expected = nearest(x, after, 5)
    for call in (run, tf.function(run), tf.function(run, jit_compile=True)):
        found, gradient = call(tf.constant(x))
        np.testing.assert_array_equal(found, expected)
        # Linear maps: <nearest(x), g> = <x, gradient>.
        inner = np.sum(x * gradient.numpy())
        np.testing.assert_allclose(inner, np.sum(expected * g), rtol=1e-4)


def convolved(x, kernel):
    """3x3, zeros outside."""
    height, width = x.shape[1:3]
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )


def normalized(x, layer):
    gamma, beta, mean, variance = layer.get_weights()
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def test_decoder_is_the_oracle():
    decoder, features, _ = make_decoder(2, 3, 4, 5, 6)
    random = np.random.RandomState(1)
    for variable in decoder.variables:
        variable.assign(random.uniform(0.2, 1.0, variable.shape))
        if variable.shape.rank > 1:
            variable.assign_sub(0.6 * tf.ones_like(variable))
    skips = [features[name] for name in NAMES[:4]]
    kernel = decoder.widen.kernel.numpy()[0, 0]
    skips[3] = skips[3] @ kernel + decoder.widen.bias.numpy()
    x = features["stride32"]
    for up, skip in zip(decoder.ups[::-1], skips[::-1]):
        x = nearest(x, *skip.shape[1:3]) + skip
        x = convolved(x, up.convolution.kernel.numpy())
        x = np.maximum(normalized(x, up.batch_norm), 0)
    x = convolved(nearest(x, 33, 49), decoder.last.kernel.numpy())
    x = np.maximum(normalized(x, decoder.last_norm), 0)
    np.testing.assert_allclose(decoder.embed(features), x, rtol=1e-4, atol=1e-4)
    kernel = decoder.classifier.kernel.numpy()[0, 0]
    logits = x @ kernel + decoder.classifier.bias.numpy()
    np.testing.assert_allclose(decoder(features), logits, rtol=1e-4, atol=1e-4)


def test_dropout_stands_between_convolution_and_batch_norm():
    decoder, features, _ = make_decoder(2, 3, 4, 5, 6)
    assert decoder.dropout.rate == 0.3
    first = decoder.embed(features, training=True).numpy()
    assert (first != decoder.embed(features, training=True).numpy()).any()
    # A constant map is left at beta by BatchNorm; it would not be one if the
    # padded convolution came after, and would be 5 if BatchNorm came before.
    decoder.dropout = lambda x, training: 5 * tf.ones_like(x)
    decoder.last_norm.beta.assign(np.linspace(-1, 1, 64))
    embedding = decoder.embed(features, training=True)
    expected = np.maximum(np.linspace(-1, 1, 64), 0)
    expected = np.broadcast_to(expected, embedding.shape)
    np.testing.assert_allclose(embedding, expected, atol=1e-5)


def test_decoder_starts_as_pytorch_does():
    decoder = network().decoder
    kernels = [(up.convolution, 9) for up in decoder.ups]
    kernels += [(decoder.last, 9), (decoder.widen, 1)]
    for layer, positions in kernels:
        bound = (positions * layer.kernel.shape[2]) ** -0.5
        found = np.abs(layer.kernel.numpy())
        assert 0.99 * bound < found.max() < 1.0001 * bound
        np.testing.assert_allclose(found.mean(), bound / 2, rtol=0.02)
    for layer in (decoder.widen, decoder.classifier):
        bound = layer.kernel.shape[2] ** -0.5
        assert 0.8 * bound < np.abs(layer.bias.numpy()).max() < bound


def test_logits_have_the_size_of_an_odd_image():
    image = np.random.RandomState(0).uniform(0, 255, (1, 33, 49, 3))
    assert network()(image.astype(np.float32)).shape == (1, 33, 49, 21)
    assert network().encoder.architecture == "densenet121"
    assert network().encoder.top == "stride32"


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(depth=50), "`depth` must be one of 121, 161, 169, 201"),
        (dict(normalization="tf"), "`normalization` must be one of"),
        (dict(batch_norm=dict(epsilon=0.0)), "`batch_norm.epsilon` must be"),
        (dict(num_classes=1), "Received: num_classes=1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        dense_unet.build(**{"num_classes": 2, **options})
