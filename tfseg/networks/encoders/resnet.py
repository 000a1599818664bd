# SPDX-License-Identifier: Apache-2.0
"""ResNet-50, 101 and 152, dilated, with the arithmetic of PyTorch.

He et al., arXiv 1512.03385, as torchvision and the CPS, CCT and CAC
repositories build it: the stride is on the 3x3 convolution, padding is
symmetric, and BatchNorm has epsilon 1e-5 and (Keras) momentum 0.9. Variables
come in the order of a PyTorch state dict. The first networks, Caffe's and
those of keras.applications, have the stride on the first 1x1 convolution.
"""

import functools

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, pooling

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STEMS = ("plain", "deep")
STRIDE_ON = ("3x3", "1x1")
OUTPUT_STRIDES = (8, 16, 32)


def layout(depth, output_stride, multi_grid, dilate_first_block):
    """Stride and dilation of the 3x3 convolution of every block.

    Args:
      depth: 50, 101 or 152.
      output_stride: 8, 16 or 32. A stage that would go beyond it keeps its
        stride at 1 and doubles the dilation.
      multi_grid: three factors on the dilations of the last stage.
      dilate_first_block: False leaves the first block of a dilated stage at
        the dilation of the stage before (torchvision, CCT). For features to
        agree between output strides, with the same weights, it must be False
        with the stride on the 3x3 convolution and True with it on the 1x1.

    Returns:
      A list per stage of (stride, dilation) per block.
    """
    stages, stride, dilation = [], 4, 1
    for index, blocks in enumerate(BLOCKS[depth]):
        step = 1 if index == 0 else 2
        first = dilation
        if stride * step > output_stride:
            step, dilation = 1, dilation * 2
        stride *= step
        dilations = [dilation] * blocks
        if not dilate_first_block:
            dilations[0] = first
        if index == 3:
            dilations = [d * g for d, g in zip(dilations, multi_grid)]
        steps = [step] + [1] * (blocks - 1)
        stages.append(list(zip(steps, dilations)))
    return stages


class Bottleneck(keras.layers.Layer):
    """1x1, 3x3, 1x1 to four times the width, beside a shortcut."""

    def __init__(
        self,
        width,
        stride,
        dilation,
        project,
        *,
        batch_norm,
        stride_on="3x3",
        dilated_conv="auto",
    ):
        super().__init__()
        block = functools.partial(
            convolution.ConvBatchNorm, batch_norm=batch_norm, fan="fan_out"
        )
        first, second = (1, stride) if stride_on == "3x3" else (stride, 1)
        self.stride = stride
        self.reduce = block(width, strides=first)
        self.spatial = block(
            width,
            3,
            strides=second,
            dilation=dilation,
            dilated_conv=dilated_conv,
        )
        self.expand = block(4 * width, activation=None)
        self.shortcut = (
            block(4 * width, activation=None, strides=stride)
            if project
            else None
        )

    def call(self, x, training=None):
        y = self.reduce(x, training=training)
        y = self.spatial(y, training=training)
        y = self.expand(y, training=training)
        if self.shortcut is not None:
            x = self.shortcut(x, training=training)
        return tf.nn.relu(x + y)


class ResNet(base.Encoder):
    """Features at stride 4 (stage 1), then up to the output stride."""

    def __init__(
        self,
        stem,
        stages,
        *,
        batch_norm,
        stride_on,
        dilated_conv,
        ceil_pooling,
        **options,
    ):
        channels, stride = {}, 4
        for index, blocks in enumerate(stages):
            stride *= blocks[0][0]
            # Of two stages with the same stride the deeper one is exposed.
            channels[f"stride{stride}"] = 256 * 2**index
        super().__init__(feature_channels=channels, **options)
        self.stem = [
            convolution.ConvBatchNorm(
                filters,
                size,
                strides=stride,
                batch_norm=batch_norm,
                fan="fan_out",
            )
            for filters, size, stride in (
                [(64, 7, 2)]
                if stem == "plain"
                else [(64, 3, 2), (64, 3, 1), (128, 3, 1)]
            )
        ]
        self.pool = pooling.MaxPool2D(3, 2, 1, ceil_mode=ceil_pooling)
        self.stages = [
            [
                Bottleneck(
                    64 * 2**index,
                    stride,
                    dilation,
                    n == 0,
                    batch_norm=batch_norm,
                    stride_on=stride_on,
                    dilated_conv=dilated_conv,
                )
                for n, (stride, dilation) in enumerate(blocks)
            ]
            for index, blocks in enumerate(stages)
        ]
        self.build(base.IMAGE_SHAPE)

    def features(self, image, training):
        x = self.normalize(image)
        for layer in self.stem:
            x = layer(x, training=training)
        x = self.pool(x)
        features, stride = {}, 4
        for stage in self.stages:
            for block in stage:
                x = block(x, training=training)
            stride *= stage[0].stride
            features[f"stride{stride}"] = x
        return features


def build(
    *,
    depth=50,
    stem="deep",
    stride_on="3x3",
    output_stride=16,
    multi_grid=(1, 2, 4),
    dilate_first_block=True,
    ceil_pooling=False,
    normalization="torch",
    dilated_conv="auto",
    batch_norm=batch_norms.factory(),
):
    """The encoder.

    Args:
      depth: 50, 101 or 152.
      stem: "deep" is three 3x3 convolutions and 128 channels ("v1c": CPS,
        CCT, PSPNet), "plain" one 7x7 and 64 channels (torchvision, CAC).
      stride_on: "3x3" or, as in Caffe, DeepLab v2 and keras.applications,
        the first "1x1".
      output_stride: 8, 16 or 32.
      multi_grid, dilate_first_block: see `layout`; (1, 2, 4) and True give
        CPS's and CAC's last stage 2, 4, 8 at output stride 16.
      ceil_pooling: whether the stem's max pooling rounds sizes up (DeepLab
        v2).
      normalization: see `base.NORMALIZATIONS`.
      dilated_conv: see `layers.dilated.Conv2D`.
      batch_norm: function that makes a BatchNorm layer.

    Returns:
      base.Encoder.

    Raises:
      ValueError: for an unknown choice.
    """
    base.check_choice("depth", depth, tuple(BLOCKS))
    base.check_choice("stem", stem, STEMS)
    base.check_choice("stride_on", stride_on, STRIDE_ON)
    base.check_choice("output_stride", output_stride, OUTPUT_STRIDES)
    if len(multi_grid) != 3 or min(multi_grid) < 1:
        raise ValueError(
            "`multi_grid` must be three factors of at least 1. "
            f"Received: multi_grid={tuple(multi_grid)}."
        )
    return ResNet(
        stem,
        layout(depth, output_stride, multi_grid, dilate_first_block),
        batch_norm=batch_norm,
        stride_on=stride_on,
        dilated_conv=dilated_conv,
        ceil_pooling=ceil_pooling,
        output_stride=output_stride,
        architecture=f"resnet{depth}" + ("_deep" if stem == "deep" else ""),
        normalization=normalization,
    )
