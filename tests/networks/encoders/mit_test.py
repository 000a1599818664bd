# SPDX-License-Identifier: Apache-2.0
import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.encoders import mit


@functools.lru_cache(maxsize=None)
def small():
    """One block per stage, few channels, weights that all matter."""
    encoder = mit.MiT((3, 4, 10, 16), (1, 1, 1, 1))
    random = np.random.RandomState(0)
    encoder.set_weights([random.randn(*v.shape) / 2 for v in encoder.variables])
    return encoder


def images(*shape):
    return np.random.RandomState(0).uniform(0, 255, shape).astype(np.float32)


def normalize(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    x = (x - mean) / np.sqrt(variance + layer.epsilon)
    return x * layer.gamma.numpy() + layer.beta.numpy()


def dense(x, layer):
    return x @ layer.kernel.numpy().astype(float) + layer.bias.numpy()


def convolve(x, layer, stride, margin):
    """One map [H, W, C]; whole windows only."""
    x = np.pad(x, ((margin, margin), (margin, margin), (0, 0)))
    size = layer.kernel_size[0]
    shape = [(n - size) // stride + 1 for n in x.shape[:2]]
    result = np.zeros((*shape, layer.bias.shape[0]))
    for i, j in np.ndindex(*shape):
        window = x[i * stride :, j * stride :][:size, :size]
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel = layer.depthwise_kernel.numpy()[..., 0]
            result[i, j] = (window * kernel).sum((0, 1))
        else:
            result[i, j] = np.tensordot(window, layer.kernel.numpy(), 3)
    return result + layer.bias.numpy()


def attend(x, layer, heads, reduction):
    source = x
    if reduction > 1:
        rows, columns = (-n % reduction for n in x.shape[:2])
        source = np.pad(x, ((0, rows), (0, columns), (0, 0)))
        source = convolve(source, layer.reduce, reduction, 0)
        source = normalize(source, layer.norm)
    width = x.shape[2] // heads
    query = dense(x, layer.query).reshape(-1, heads, width)
    key, value = np.split(dense(source, layer.key_value), 2, -1)
    key, value = (y.reshape(-1, heads, width) for y in (key, value))
    scores = np.einsum("qhc,khc->hqk", query, key) / math.sqrt(width)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    result = np.einsum("hqk,khc->qhc", shares, value)
    return dense(result.reshape(x.shape), layer.project)


def feed(x, layer):
    x = convolve(dense(x, layer.expand), layer.depthwise, 1, 1)
    x = x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return dense(x, layer.project)


def test_features_are_those_of_an_oracle():
    encoder = small()
    # Maps of 10x6, 5x3, 3x2 and 2x1: the windows 8, 4 and 2 do not fit.
    image = images(1, 40, 24, 3)
    features = encoder(image)
    mean, std = base.NORMALIZATIONS["torch"]
    x = (image[0].astype(float) - mean) / std
    for n, stage in enumerate(encoder.stages):
        embedding = encoder.patch_embeddings[n]
        stride, margin = (2, 1) if n else (4, 3)
        x = convolve(x, embedding.project, stride, margin)
        x = normalize(x, embedding.norm)
        (block,) = stage.blocks
        y = normalize(x, block.norm1)
        heads, reduction = [(1, 8), (2, 4), (5, 2), (8, 1)][n]
        x = x + attend(y, block.attention, heads, reduction)
        x = x + feed(normalize(x, block.norm2), block.feed_forward)
        x = normalize(x, stage.norm)
        found = features[f"stride{4 << n}"][0]
        np.testing.assert_allclose(found, x, atol=2e-4)


def test_published_sizes():
    # As NVlabs/SegFormer's without its ImageNet classifier.
    encoder = mit.build()
    assert encoder.count_params() == 3319392
    assert encoder.feature_channels == dict(
        stride4=32, stride8=64, stride16=160, stride32=256
    )
    epsilons = {
        layer.epsilon
        for stage in encoder.stages
        for layer in stage.submodules
        if isinstance(layer, keras.layers.LayerNormalization)
    }
    assert epsilons == {1e-5, 1e-6}
    attention = encoder.stages[0].blocks[0].attention
    assert attention.norm.epsilon == 1e-5
    feed_forward = encoder.stages[3].blocks[0].feed_forward
    for kernel, expected in (
        (feed_forward.expand.kernel, 0.02),
        (feed_forward.depthwise.depthwise_kernel, math.sqrt(2 / 9)),
        (attention.reduce.kernel, math.sqrt(2 / (64 * 32))),
    ):
        np.testing.assert_allclose(np.std(kernel), expected, rtol=0.05)
    assert mit.LAYOUTS["b1"][0] == (64, 128, 320, 512)
    assert mit.LAYOUTS["b2"] == (mit.LAYOUTS["b1"][0], (3, 4, 6, 3))


def test_a_new_row_leaves_the_whole_windows_above_it():
    # PyTorch's keys and values are the first ones.
    layer = mit.Attention(4, 2, 2)
    x = np.random.RandomState(0).randn(1, 4, 6, 4).astype(np.float32)
    layer(x)
    whole = layer._reduced(x)
    longer = layer._reduced(np.concatenate([x, x[:, :1]], 1))
    assert whole.shape == (1, 2, 3, 4) and longer.shape == (1, 3, 3, 4)
    np.testing.assert_allclose(longer[:, :2], whole, atol=1e-6)


def test_any_size_from_one_trace():
    encoder = small()
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def infer(image):
        traces.append(image)
        return encoder(image)

    for size in ((33, 49), (1, 1), (2, 65)):
        image = images(2, *size, 3)
        found, expected = infer(image), encoder(image)
        for n in range(4):
            name, stride = f"stride{4 << n}", 4 << n
            shape = [-(-side // stride) for side in size]
            assert found[name].shape[1:3] == shape
            np.testing.assert_allclose(
                found[name], expected[name], rtol=1e-3, atol=1e-3
            )
    assert len(traces) == 1


def test_gradients_reach_every_variable():
    encoder = small()
    with tf.GradientTape() as tape:
        maps = encoder(images(1, 64, 64, 3), training=True)
        loss = sum(
            tf.reduce_mean(x * tf.random.stateless_normal(tf.shape(x), (0, 1)))
            for x in (maps[f"stride{4 << n}"] for n in range(4))
        )
    gradients = tape.gradient(loss, encoder.trainable_variables)
    assert len(gradients) == len(encoder.variables)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_saved_and_restored(tmp_path):
    path = str(tmp_path / "encoder.weights.h5")
    small().save_weights(path)
    saved = tf.train.Checkpoint(model=small()).save(str(tmp_path / "saved"))
    for restore in (
        lambda other: other.load_weights(path),
        lambda other: tf.train.Checkpoint(model=other)
        .restore(saved)
        .assert_existing_objects_matched()
        .assert_consumed(),
    ):
        other = mit.MiT((3, 4, 10, 16), (1, 1, 1, 1))
        restore(other)
        for a, b in zip(small().variables, other.variables):
            np.testing.assert_array_equal(a, b)


def test_bad_size_is_named():
    with pytest.raises(ValueError, match="`size` must be one of 'b0', 'b1'"):
        mit.build(size="b9")
