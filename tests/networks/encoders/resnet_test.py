# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tests.networks import recipe
from tfseg.networks import base
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


def test_layout_of_deeplab_v2():
    stages = resnet.layout(101, 8, (1, 1, 1), True)
    assert stages[1] == [(2, 1)] + [(1, 1)] * 3
    assert stages[2:] == [[(1, 2)] * 23, [(1, 4)] * 3]


def short(output_stride, stride_on="3x3", **options):
    """All four stages, of two blocks each."""
    # What keeps the features in step, see `resnet.layout`.
    dilate_first_block = stride_on == "1x1"
    stages = resnet.layout(50, output_stride, (1, 1, 1), dilate_first_block)
    return resnet.ResNet(
        "plain",
        [stage[:2] for stage in stages],
        batch_norm=batch_norm.factory(),
        stride_on=stride_on,
        dilated_conv="auto",
        output_stride=output_stride,
        **{"ceil_pooling": False, **options},
    )


def images(*shape):
    random = np.random.RandomState(0)
    return random.uniform(0, 255, shape).astype(np.float32)


@pytest.mark.parametrize(
    "stride_on, ceil_pooling, sizes",
    [
        ("3x3", False, {"stride4": 8, "stride8": 4}),
        ("1x1", True, {"stride4": 9, "stride8": 5}),
    ],
)
def test_output_strides_agree_at_shared_positions(
    stride_on, ceil_pooling, sizes
):
    options = dict(stride_on=stride_on, ceil_pooling=ceil_pooling)
    coarse, middle, fine = (short(s, **options) for s in (32, 16, 8))
    random = np.random.RandomState(0)
    for variable in coarse.variables:
        if "moving_" in variable.name or "beta" in variable.name:
            variable.assign(0.5 + random.rand(*variable.shape))
    for encoder in (middle, fine):
        encoder.set_weights(coarse.get_weights())
    for size in [(128, 96), (97, 131), (33, 30), (1, 1)]:
        image = images(1, *size, 3)
        expected = coarse(image)["stride32"].numpy()
        scale = np.abs(expected).max()
        for encoder, step in ((middle, 2), (fine, 4)):
            top = encoder(image)[encoder.top]
            found = top[:, ::step, ::step]
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
    features = fine(images(1, 32, 32, 3))
    assert {name: features[name].shape[1] for name in sizes} == sizes


def test_a_shift_by_the_output_stride_shifts_the_features():
    # Two blocks of every stage see 195 pixels. Around the pattern the image
    # is the mean, so zero after normalization, as is the padding.
    encoder = short(8)
    pattern = images(1, 16, 24, 3)
    background = np.array(base.NORMALIZATIONS["torch"][0], np.float32)

    def features(top, left):
        image = np.tile(background, [1, 264, 272, 1])
        image[:, top : top + 16, left : left + 24] = pattern
        return encoder(image)["stride8"].numpy()

    found, expected = features(128, 120), features(120, 136)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(
        found[:, 1:, :-2], expected[:, :-1, 2:], atol=1e-5
    )
    # And not less than that.
    assert np.abs(features(124, 120) - found).max() > 0.1


def test_an_image_does_not_see_the_rest_of_its_batch():
    encoder = short(16)
    image = images(3, 45, 38, 3)
    together = encoder(image)
    for name in encoder.feature_channels:
        alone = encoder(image[1:2])[name]
        np.testing.assert_allclose(
            alone, together[name][1:2], rtol=1e-4, atol=1e-4
        )
