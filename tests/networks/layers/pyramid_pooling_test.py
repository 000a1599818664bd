# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests import golden
from tfseg.networks.layers import pooling, pyramid_pooling, resize

BINS = (1, 2, 3, 6)
# Of the official module, in the order in which we create ours.
PARAMETERS = [
    f"stages.{n}.{name}"
    for n in range(4)
    for name in ("1.weight", "2.weight", "2.bias")
] + [f"bottleneck.{name}" for name in ("0.weight", "1.weight", "1.bias")]
STATISTICS = [
    f"{layer}.running_{kind}"
    for layer in [f"stages.{n}.2" for n in range(4)] + ["bottleneck.1"]
    for kind in ("mean", "var")
]


def official_layer(vectors):
    layer = pyramid_pooling.PyramidPooling(4, BINS, hidden=4)
    layer(vectors["x"])
    for name, variable in zip(PARAMETERS, layer.trainable_variables):
        variable.assign(vectors[f"p.{name}"])
    for name, variable in zip(STATISTICS, layer.non_trainable_variables):
        variable.assign(vectors[f"b0.{name}"])
    return layer


def test_inference_is_the_official_one():
    vectors = golden.load("psp")
    layer = official_layer(vectors)
    signature = [tf.TensorSpec([None, None, None, 16])]
    traced = tf.function(layer, input_signature=signature)
    for size in ("", "_12", "_4x5"):
        for call in (layer, traced):
            found = call(tf.constant(vectors[f"x{size}"]))
            expected = vectors[f"out_eval{size}"]
            np.testing.assert_allclose(found, expected, atol=1e-5)
    compiled = tf.function(layer, jit_compile=True)(vectors["x_4x5"])
    np.testing.assert_allclose(compiled, vectors["out_eval_4x5"], atol=1e-5)


def test_training_is_the_official_one():
    vectors = golden.load("psp")
    layer = official_layer(vectors)
    x = tf.constant(vectors["x"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = layer(x, training=True)
        total = tf.reduce_sum(found * vectors["g"])
    np.testing.assert_allclose(found, vectors["out_train"], atol=1e-5)
    gradients = tape.gradient(total, [x] + layer.trainable_variables)
    expected = [vectors["grad_x"]] + [vectors[f"gp.{p}"] for p in PARAMETERS]
    for gradient, value in zip(gradients, expected):
        scale = np.abs(value).max()
        np.testing.assert_allclose(gradient, value, atol=1e-4 * scale)
    for name, variable in zip(STATISTICS, layer.non_trainable_variables):
        np.testing.assert_allclose(
            variable, vectors[f"b1.{name}"], rtol=1e-4, atol=1e-6
        )


def test_grids_are_the_official_ones():
    vectors = golden.load("psp")
    grids = pooling.average_to_grids(tf.constant(vectors["x"]), BINS)
    for bins, found in zip(BINS, grids):
        np.testing.assert_allclose(found, vectors[f"pool{bins}"], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (5, 2), (7, 40), (12, 6)])
def test_windows_are_those_of_adaptive_pooling(size):
    def edges(length, n):
        return [
            (int(np.floor(i * length / n)), int(np.ceil((i + 1) * length / n)))
            for i in range(n)
        ]

    x = np.random.RandomState(0).randn(2, *size, 3).astype(np.float32)
    for bins, found in zip(BINS, pooling.average_to_grids(x, BINS)):
        expected = [
            [
                x[:, top:bottom, left:right].mean((1, 2))
                for left, right in edges(size[1], bins)
            ]
            for top, bottom in edges(size[0], bins)
        ]
        expected = np.transpose(expected, (2, 0, 1, 3))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_half_precision_is_summed_in_float32():
    # 4096 ones and a bit: a float16 sum stops at 2048.
    x = tf.cast(tf.fill([1, 64, 64, 1], 1.25), tf.float16)
    (found,) = pooling.average_to_grids(x, [1])
    assert found.dtype == tf.float16
    np.testing.assert_array_equal(found, [[[[1.25]]]])


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (8, 7)])
def test_merging_is_a_convolution_of_resized_grids(size):
    random = np.random.RandomState(0)
    x, *grids = [
        random.randn(2, *shape).astype(np.float32)
        for shape in [(*size, 5), (1, 1, 2), (3, 3, 4), (6, 6, 2)]
    ]
    layer = pyramid_pooling.Merge(7, keras.initializers.RandomNormal())
    found = layer([x, *grids])
    assert layer.kernel.shape == (3, 3, 13, 7)
    resized = [resize.bilinear(g, size, align_corners=False) for g in grids]
    joined = tf.concat([x, *resized], -1)
    expected = tf.nn.conv2d(joined, layer.kernel, 1, "SAME")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_computes_in_half_precision_and_starts_as_told():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = pyramid_pooling.PyramidPooling(
            3, (1, 2), hidden=2, initializer=keras.initializers.Ones
        )
        x = tf.ones([1, 4, 4, 3], tf.bfloat16)
        found = layer(x)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert found.dtype == tf.bfloat16
    for variable in layer.trainable_variables:
        assert variable.dtype == tf.float32
        if variable.shape.rank == 4:
            assert (variable.numpy() == 1).all()
    # In the middle, 9 pixels of 3 ones and twice 2 threes.
    np.testing.assert_allclose(
        tf.cast(found[0, 1, 1], tf.float32), 9 * (3 + 4 * 3), rtol=1e-2
    )
