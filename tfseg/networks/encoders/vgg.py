# SPDX-License-Identifier: Apache-2.0
"""VGG16's thirteen convolutions, dilated as in DeepLab.

Simonyan and Zisserman, arXiv 1409.1556; Chen et al., arXiv 1412.7062 and
1606.00915 and the prototxt files published with them. 3x3 convolutions with
bias and ReLU, no BatchNorm. DeepLab's files change VGG16 in this way:
  pool1, pool2, pool3: windows of 3x3 instead of 2x2, still stride 2, with one
    pixel of padding, sizes rounded up as Caffe does.
  pool4: 3x3 with stride 1; conv5_1, conv5_2 and conv5_3 are dilated by 2. So
    the output stride is 8.
  pool5: 3x3 with stride 1, not dilated. It belongs to the head here (see
    `networks.vgg16`), so conv5_3 is the top feature and the output stride is
    at most 16.

Differences on purpose: started from scratch, kernels are He-normal by fan-out
as in torchvision. N(0, 0.01), which VGG's authors give, does not train a
network of this depth that has no BatchNorm. 2x2 windows, too, round sizes up,
so that an image of one pixel works; torchvision's and Keras' round down.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.layers import convolution, pooling

FILTERS = (
    (64, 64),
    (128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (512, 512, 512),
)
OUTPUT_STRIDES = (8, 16)
POOL_SIZES = (2, 3)


def pool(size, stride):
    """Max pooling of VGG (`size` 2) or DeepLab (3); stride 1 keeps the size."""
    if stride == 1:
        return keras.layers.MaxPool2D(size, 1, "same")
    return pooling.MaxPool2D(size, stride, (size - 1) // 2, ceil_mode=True)


class VGG(base.Encoder):
    """Features before each pooling: strides 1, 2, 4, 8 and, maybe, 16."""

    def __init__(self, *, output_stride, pool_size, dilated_conv, **options):
        strides = [min(2**n, output_stride) for n in range(len(FILTERS))]
        channels = {f"stride{s}": f[-1] for s, f in zip(strides, FILTERS)}
        super().__init__(
            feature_channels=channels,
            output_stride=output_stride,
            architecture="vgg16",
            **options,
        )
        self.strides = strides
        self.stages = [
            [
                convolution.convolution(
                    width,
                    3,
                    # What the last pooling does not take off.
                    dilation=2**n // stride,
                    dilated_conv=dilated_conv,
                    use_bias=True,
                    kernel_initializer=convolution.kaiming_normal("fan_out"),
                )
                for width in widths
            ]
            for n, (widths, stride) in enumerate(zip(FILTERS, strides))
        ]
        self.pools = [
            pool(pool_size, after // before)
            for before, after in zip(strides, strides[1:])
        ]
        self.build(base.IMAGE_SHAPE)

    def features(self, image, training):
        x = self.normalize(image)
        features = {}
        for n, stage in enumerate(self.stages):
            if n:
                x = self.pools[n - 1](x)
            for layer in stage:
                x = tf.nn.relu(layer(x))
            features[f"stride{self.strides[n]}"] = x
        return features


def build(
    *,
    output_stride=8,
    pool_size=3,
    normalization="torch",
    dilated_conv="auto",
):
    """The encoder.

    Args:
      output_stride: 8 (DeepLab) or 16, of conv5_3. For the same weights the
        features agree at shared positions if the map at stride 8 has odd
        sides, for example for images of 32k - 31 pixels (DeepLab's rule).
      pool_size: side of the pooling windows, pixels: 3 (DeepLab) or 2, with
        which ImageNet weights were trained.
      normalization: see `base.NORMALIZATIONS`; "torch" for torchvision's
        weights, "caffe" for those of keras.applications.
      dilated_conv: see `layers.dilated.Conv2D`.

    Returns:
      base.Encoder.

    Raises:
      ValueError: for an unknown choice.
    """
    base.check_choice("output_stride", output_stride, OUTPUT_STRIDES)
    base.check_choice("pool_size", pool_size, POOL_SIZES)
    return VGG(
        output_stride=output_stride,
        pool_size=pool_size,
        dilated_conv=dilated_conv,
        normalization=normalization,
    )
