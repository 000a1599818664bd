# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.networks.encoders import vgg


def images(*shape):
    return np.random.RandomState(0).uniform(0, 255, shape).astype(np.float32)


def table(encoder):
    return [
        [(layer.filters, layer.dilation_rate[0]) for layer in stage]
        for stage in encoder.stages
    ]


def test_layers_and_atrous_consistency():
    dense, strided = vgg.build(), vgg.build(output_stride=16)
    expected = [
        [(64, 1)] * 2,
        [(128, 1)] * 2,
        [(256, 1)] * 3,
        [(512, 1)] * 3,
    ]
    assert table(dense) == expected + [[(512, 2)] * 3]
    assert table(strided) == expected + [[(512, 1)] * 3]
    assert (dense.top, strided.top) == ("stride8", "stride16")
    assert list(dense.feature_channels.items()) == [
        ("stride1", 64),
        ("stride2", 128),
        ("stride4", 256),
        ("stride8", 512),
    ]
    # DeepLab's rule: odd sides at stride 8, here 5 and 7.
    image = images(1, 33, 49, 3)
    strided.set_weights(dense.get_weights())
    fine, coarse = dense(image)["stride8"], strided(image)
    assert coarse["stride8"].shape == fine.shape == (1, 5, 7, 512)
    expected = coarse["stride16"]
    assert expected.shape == (1, 3, 4, 512)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(fine[:, ::2, ::2], expected, atol=1e-5 * scale)


def test_windows_of_two_are_those_of_vgg_on_an_even_image():
    encoder = vgg.build(pool_size=2, output_stride=16)
    features = encoder(images(1, 32, 48, 3))
    for n in range(4):
        name = f"stride{2 ** (n + 1)}"
        assert features[name].shape[1:3] == (32 >> n + 1, 48 >> n + 1)
        x = tf.nn.max_pool2d(features[f"stride{2 ** n}"], 2, 2, "VALID")
        for layer in encoder.stages[n + 1]:
            x = tf.nn.relu(layer(x))
        np.testing.assert_allclose(features[name], x, atol=1e-5)


@pytest.mark.parametrize(
    "size, first, last", [(2, [9, 9, 0], [0, 0, 0]), (3, [9, 9, 9], [9, 9, 9])]
)
def test_pooling_at_stride_1_keeps_the_size(size, first, last):
    # A window of 2 reaches forward, one of 3 to both sides.
    x = np.zeros([1, 3, 3, 1], np.float32)
    x[0, 1, 1] = 9
    found = vgg.pool(size, 1)(x)[0, :, :, 0]
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[2], last)


def test_other_normalizations():
    image = images(1, 9, 9, 3)
    torch, caffe = vgg.build(), vgg.build(normalization="caffe")
    caffe.set_weights(torch.get_weights())
    np.testing.assert_allclose(
        caffe.normalize(image)[0, 0, 0],
        image[0, 0, 0] - [123.68, 116.779, 103.939],
        rtol=1e-5,
    )
    assert (caffe(image)["stride8"] != torch(image)["stride8"]).numpy().any()
