# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tensorflow as tf
from tensorflow import keras

from tests import golden
from tfseg.networks.layers import aspp

# Of the official module, in the order in which we create ours.
PARAMETERS = (
    [f"map_convs.{i}.weight" for i in range(4)]
    + ["map_bn.weight", "map_bn.bias", "global_pooling_conv.weight"]
    + ["global_pooling_bn.weight", "global_pooling_bn.bias"]
    + ["red_conv.weight", "pool_red_conv.weight"]
    + ["red_bn.weight", "red_bn.bias"]
)
STATISTICS = [
    f"{layer}.running_{kind}"
    for layer in ("map_bn", "global_pooling_bn", "red_bn")
    for kind in ("mean", "var")
]


def cps_layer(vectors):
    layer = aspp.SummedPooling(6, (2, 3, 5), hidden=4)
    layer(vectors["x"])
    for name, variable in zip(PARAMETERS, layer.trainable_variables):
        variable.assign(vectors[f"p.{name}"])
    for name, variable in zip(STATISTICS, layer.non_trainable_variables):
        variable.assign(vectors[f"b0.{name}"])
    return layer


def test_summed_pooling_is_the_official_one_of_cps():
    vectors = golden.load("aspp_cps")
    layer = cps_layer(vectors)
    x = tf.constant(vectors["x"])
    for call in (layer, tf.function(layer)):
        found = call(x, training=False)
        np.testing.assert_allclose(found, vectors["out_eval"], atol=1e-5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = layer(x, training=True)
        total = tf.reduce_sum(found * vectors["g"])
    np.testing.assert_allclose(found, vectors["out_train"], atol=1e-4)
    gradients = tape.gradient(total, [x] + layer.trainable_variables)
    expected = [vectors["grad_x"]] + [vectors[f"gp.{p}"] for p in PARAMETERS]
    for gradient, value in zip(gradients, expected):
        scale = np.abs(value).max()
        np.testing.assert_allclose(gradient, value, atol=1e-3 * scale)
    for name, variable in zip(STATISTICS, layer.non_trainable_variables):
        np.testing.assert_allclose(
            variable, vectors[f"b1.{name}"], rtol=1e-4, atol=1e-5
        )


def test_concatenated_pooling_drops_only_while_training():
    keras.utils.set_random_seed(0)
    layer = aspp.ConcatenatedPooling(8, (1, 2))
    x = np.random.RandomState(0).randn(2, 5, 4, 3).astype(np.float32)
    assert layer(x).shape == (2, 5, 4, 8)
    np.testing.assert_array_equal(layer(x), layer(x))
    # Two 1x1 and two 3x3 branches, the projection; gamma and beta of each.
    kernels = 2 * 3 * 8 + 2 * 9 * 3 * 8 + 4 * 8 * 8
    assert sum(int(tf.size(v)) for v in layer.trainable_variables) == (
        kernels + 5 * 2 * 8
    )
    assert (layer(x, training=True).numpy() == 0).mean() > 0.5


def test_concatenated_pooling_is_what_its_branches_give():
    layer = aspp.ConcatenatedPooling(8, (2, 3))
    x = np.random.RandomState(0).randn(2, 5, 4, 3).astype(np.float32)
    layer(x)
    random = np.random.RandomState(1)
    for variable in layer.variables:
        variable.assign(0.5 + random.rand(*variable.shape))

    def branch(block, x, dilation=1):
        kernel, norm = block.convolution.kernel, block.batch_norm
        x = tf.nn.conv2d(x, kernel, 1, "SAME", dilations=dilation)
        scale = norm.gamma / np.sqrt(norm.moving_variance + 1e-5)
        return np.maximum((x - norm.moving_mean) * scale + norm.beta, 0)

    maps = [branch(b, x, d) for b, d in zip(layer.branches, (1, 2, 3))]
    pooled = branch(layer.pooled_branch, x.mean((1, 2), keepdims=True))
    maps.append(pooled + np.zeros_like(maps[0]))
    expected = branch(layer.reduce, np.concatenate(maps, -1))
    signature = [tf.TensorSpec([None, None, None, 3])]
    for call in (layer, tf.function(layer, input_signature=signature)):
        np.testing.assert_allclose(call(x), expected, rtol=1e-4)
