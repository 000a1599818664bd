# SPDX-License-Identifier: Apache-2.0
import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base, vgg16

CONVOLUTIONS = 14714688  # of VGG16, as published


@functools.lru_cache(maxsize=None)
def built(head="large_fov"):
    keras.utils.set_random_seed(0)
    return vgg16.build(num_classes=21, head=head)


def count(variables):
    return sum(int(tf.size(v)) for v in variables)


def images(*shape):
    return np.random.RandomState(0).uniform(0, 255, shape).astype(np.float32)


def convolve(x, layer, dilation=1):
    """One image [H, W, C], zeros outside; odd kernels."""
    kernel, bias = (v.numpy().astype(float) for v in layer.variables)
    margin = dilation * (len(kernel) // 2)
    height, width = x.shape[:2]
    x = np.pad(x, ((margin, margin), (margin, margin), (0, 0)))
    result = np.zeros((height, width, len(bias))) + bias
    for row, taps in enumerate(kernel):
        for column, tap in enumerate(taps):
            top, left = row * dilation, column * dilation
            result += x[top : top + height, left : left + width] @ tap
    return result


def pool(x, size, stride, margin, reduce=np.max):
    """Caffe's: rounds up, drops a window that starts in the padding after."""
    lengths = []
    for n in x.shape[:2]:
        count = math.ceil((n + 2 * margin - size) / stride) + 1
        lengths.append(count - ((count - 1) * stride >= n + margin))
    result = np.zeros((*lengths, x.shape[2]))
    for i, j in np.ndindex(*lengths):
        top, left = i * stride - margin, j * stride - margin
        window = x[max(top, 0) : top + size, max(left, 0) : left + size]
        result[i, j] = reduce(window, (0, 1))
    return result


def oracle(network, image, dilations):
    mean, std = base.NORMALIZATIONS["torch"]
    x = (image - np.array(mean)) / np.array(std)
    for n, stage in enumerate(network.encoder.stages):
        for layer in stage:
            x = np.maximum(convolve(x, layer, 2 if n == 4 else 1), 0)
        if n < 4:
            x = pool(x, 3, 2 if n < 3 else 1, 1)
    x = pool(x, 3, 1, 1)
    if len(dilations) == 1:
        x = pool(x, 3, 1, 1, lambda window, axes: np.sum(window, axes) / 9)
    decoder = network.decoder
    logits = 0
    for branch, classifier, dilation in zip(
        decoder.branches, decoder.classifiers, dilations
    ):
        y = np.maximum(convolve(x, branch.fc6, dilation), 0)
        y = np.maximum(convolve(y, branch.fc7), 0)
        logits += convolve(y, classifier)
    return logits


def test_number_of_parameters():
    fc6, fc7, fc8 = 9 * 512 * 1024 + 1024, 1024 * 1024 + 1024, 1025 * 21
    network = built("large_fov")
    assert count(network.encoder.trainable_variables) == CONVOLUTIONS
    assert count(network.decoder.variables) == fc6 + fc7 + fc8
    # "20.5M" in the paper's table.
    assert count(network.variables) == 20505429
    network = built("aspp")
    assert count(network.decoder.variables) == 4 * (fc6 + fc7 + fc8)
    assert not network.non_trainable_variables


@pytest.mark.parametrize(
    "head, dilations", [("large_fov", [12]), ("aspp", [6, 12, 18, 24])]
)
def test_logits_are_those_of_an_oracle(head, dilations):
    network = built(head)
    weights = network.get_weights()
    random = np.random.RandomState(1)
    network.set_weights(
        [w if w.ndim > 1 else 0.1 * random.randn(*w.shape) for w in weights]
    )
    image = images(1, 46, 57, 3)
    features = network.encoder(image)
    embedding = network.decoder.embed(features)
    expected = oracle(network, image[0].astype(float), dilations)
    found = network.decoder.logits(embedding)[0]
    assert found.shape == (7, 8, 21)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
    # Corners are aligned: 57 pixels are 7 steps of 8.
    logits = network(image)[0]
    np.testing.assert_allclose(logits[0, ::8], found[0], atol=1e-5)
    np.testing.assert_allclose(logits[-1, ::8], found[-1], atol=1e-5)
    # The map is too small to tell the largest dilations apart.
    rates = [branch.fc6.dilation_rate[0] for branch in network.decoder.branches]
    assert rates == dilations
    network.set_weights(weights)


def test_embedding_is_what_the_classifiers_see():
    network = built("aspp")
    features = network.encoder(images(1, 17, 17, 3))
    embedding = network.decoder.embed(features)
    assert embedding.shape == (1, 3, 3, 4 * 1024)
    classifiers = network.decoder.classifiers
    assert [layer.dtype for layer in classifiers] == ["float32"] * 4
    kernels = tf.concat([layer.kernel for layer in classifiers], 2)
    expected = tf.nn.conv2d(embedding, kernels, 1, "SAME")
    expected += sum(layer.bias for layer in classifiers)
    found = network.decoder.logits(embedding)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_start_values():
    network = built("large_fov")
    branch = network.decoder.branches[0]
    (classifier,) = network.decoder.classifiers
    np.testing.assert_allclose(np.std(classifier.kernel), 0.01, rtol=0.05)
    np.testing.assert_allclose(
        np.std(branch.fc6.kernel), np.sqrt(2 / (9 * 512)), rtol=0.01
    )
    for stage in network.encoder.stages:
        for layer in stage:
            expected = np.sqrt(2 / (9 * layer.kernel.shape[3]))
            np.testing.assert_allclose(
                np.std(layer.kernel), expected, rtol=0.05
            )
    assert all(
        not v.numpy().any() for v in network.variables if v.shape.rank == 1
    )


def test_dropout_after_fc6_and_fc7_while_training():
    network = built("large_fov")
    features = network.encoder(images(1, 33, 33, 3))
    inference = network.decoder.embed(features).numpy()
    first, second = (
        network.decoder.embed(features, training=True).numpy() for _ in "12"
    )
    assert (first != second).any()
    # About half of the positive values are dropped, the others come from
    # another mixture of fc6.
    positive = inference > 0
    dropped = (first[positive] == 0).mean()
    assert 0.4 < dropped < 0.75
    np.testing.assert_array_equal(network.decoder.embed(features), inference)


def test_rates_are_branches():
    decoder = vgg16.Decoder(
        2, head="aspp", top="stride16", rates=(3, 6), dilated_conv="auto"
    )
    assert [b.fc6.dilation_rate for b in decoder.branches] == [(3, 3), (6, 6)]
    assert len(decoder.classifiers) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(head="fov"), "`head` must be one of 'large_fov', 'aspp'"),
        (dict(output_stride=32), "`output_stride` must be one of 8, 16.*=32"),
        (dict(pool_size=4), "`pool_size` must be one of 2, 3.*pool_size=4"),
        (dict(rates=()), "`rates` must be dilations"),
        (dict(rates=(0,)), "`rates` must be dilations"),
        (dict(normalization="bgr"), "`normalization` must be one of"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        vgg16.build(num_classes=2, **options)
