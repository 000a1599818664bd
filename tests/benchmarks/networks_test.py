# SPDX-License-Identifier: Apache-2.0
import pytest
import tensorflow as tf

from tfseg.benchmarks import networks
from tfseg.networks.encoders import resnet


def test_multiply_adds_of_the_small_network_by_hand():
    # Output pixels x kernel x channels in x channels out, at 16x16, width 2.
    encoder = (
        64 * 9 * 3 * 2  # stride 2
        + 16 * 9 * (2 * 4 + 4 * 4)  # stride 4
        + 4 * 9 * (4 * 8 + 2 * 8 * 8)  # stride 8
    )
    decoder = 4 * 8 * 4 + 16 * 9 * 8 * 4 + 64 * 9 * 6 * 2 + 64 * 2 * 21
    options = {"name": "fcn", "width": 2}
    assert networks.multiply_adds(options, 16) == encoder + decoder


def test_multiply_adds_of_resnet50_are_the_published_ones():
    # torchvision's documentation: 4.09 giga at 224x224, of which the
    # classifier, which is not here, has 2048 * 1000.
    encoder = resnet.build(stem="plain", output_stride=32, multi_grid=(1, 1, 1))
    image = tf.TensorSpec([1, 224, 224, 3])
    found = networks.count(tf.function(encoder).get_concrete_function(image))
    assert found + 2048 * 1000 == pytest.approx(4.089e9, rel=1e-3)


def test_products_of_attention_and_of_depthwise_convolutions():
    @tf.function
    def products(x, y):
        scores = tf.einsum("aecd,abcd->acbe", y, x)
        depthwise = tf.nn.depthwise_conv2d(
            tf.zeros([1, 4, 4, 3]), tf.ones([3, 3, 3, 2]), [1] * 4, "SAME"
        )
        return scores, depthwise, x @ tf.ones([5, 7])

    shapes = [tf.TensorSpec(shape) for shape in ((2, 3, 4, 5), (2, 6, 4, 5))]
    expected = 2 * 6 * 4 * 5 * 3 + 16 * 9 * 6 + 2 * 3 * 4 * 5 * 7
    found = networks.count(products.get_concrete_function(*shapes))
    assert found == expected


@pytest.mark.parametrize("output_stride, stages", [(16, 1), (8, 2)])
def test_dilation_instead_of_stride_by_hand(output_stride, stages):
    # 3x3 of the last stage on twice the side: 4 times its products.
    def products(output_stride):
        encoder = resnet.build(
            output_stride=output_stride, multi_grid=(1, 1, 1)
        )
        image = tf.TensorSpec([1, 96, 96, 3])
        graph = tf.function(encoder).get_concrete_function(image)
        return networks.count(graph)

    def stage(width, blocks, channels_in, pixels):
        first = channels_in * width + 9 * width**2 + 4 * width**2
        shortcut = channels_in * 4 * width
        others = 4 * width**2 + 9 * width**2 + 4 * width**2
        return pixels * (first + shortcut + (blocks - 1) * others)

    # The first 1x1 of a strided stage works before the stride.
    third = stage(256, 6, 512, 36), 36 * 3 * 512 * 256
    fourth = stage(512, 3, 1024, 9), 9 * 3 * 1024 * 512
    difference = 3 * fourth[0] - fourth[1]
    if stages == 2:
        difference = 15 * fourth[0] - fourth[1] + 3 * third[0] - third[1]
    assert products(output_stride) - products(32) == difference
