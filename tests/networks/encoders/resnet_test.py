# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tests.networks import recipe
from tfseg.networks.encoders import resnet
from tfseg.networks.layers import batch_norm


def test_layout_of_cps():
    stages = resnet.layout(50, 16, (1, 2, 4), True)
    assert stages[0] == [(1, 1)] * 3
    assert stages[1] == [(2, 1)] + [(1, 1)] * 3
    assert stages[2] == [(2, 1)] + [(1, 1)] * 5
    assert stages[3] == [(1, 2), (1, 4), (1, 8)]


def test_layout_of_torchvision_and_cct_at_output_stride_8():
    stages = resnet.layout(101, 8, (1, 1, 1), False)
    assert stages[1] == [(2, 1)] + [(1, 1)] * 3
    assert stages[2] == [(1, 1)] + [(1, 2)] * 22
    assert stages[3] == [(1, 2), (1, 4), (1, 4)]


def test_layout_without_dilation():
    stages = resnet.layout(50, 32, (1, 1, 1), True)
    assert [stage[0] for stage in stages] == [(1, 1), (2, 1), (2, 1), (2, 1)]
    assert {dilation for stage in stages for _, dilation in stage} == {1}


def test_deep_stem_at_output_stride_8_is_the_official_one_of_cct():
    # An even size: SAME padding would show.
    vectors = golden.load("net_cct")
    encoder = resnet.build(
        output_stride=8, multi_grid=(1, 1, 1), dilate_first_block=False
    )
    recipe.assign(encoder, vectors)
    image = recipe.image(vectors)
    for call in (encoder, tf.function(encoder)):
        features = call(image, training=False)
        for name, stage in (("stride4", 1), ("stride8", 4)):
            expected = vectors[f"feat_stage{stage}_spatial"]
            found = tf.reduce_mean(features[name], -1)
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
            expected = vectors[f"feat_stage{stage}_channel"]
            found = tf.reduce_mean(features[name], [1, 2])
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("height", [16, 17])
def test_dilation_instead_of_stride_agrees_at_shared_positions(height):
    def stage(blocks):
        return [
            resnet.Bottleneck(
                2, stride, dilation, n == 0, batch_norm=batch_norm.factory()
            )
            for n, (stride, dilation) in enumerate(blocks)
        ]

    def run(layers, x):
        for layer in layers:
            x = layer(x)
        return x

    strided = stage([(2, 1), (1, 1)])
    dilated = stage([(1, 1), (1, 2)])
    x = np.random.RandomState(0).randn(1, height, 17, 3).astype(np.float32)
    expected = run(strided, x)
    run(dilated, x)
    for a, b in zip(strided, dilated):
        b.set_weights(a.get_weights())
    found = run(dilated, x)
    np.testing.assert_allclose(found[:, ::2, ::2], expected, atol=1e-5)
