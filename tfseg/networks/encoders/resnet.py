# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 and ResNet-101, dilated, with the arithmetic of PyTorch.

He et al., arXiv 1512.03385, as torchvision and the CPS, CCT and CAC
repositories build it: the stride is on the 3x3 convolution, padding is
symmetric, and BatchNorm has epsilon 1e-5 and (Keras) momentum 0.9. Variables
come in the order of a PyTorch state dict.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STEMS = ("plain", "deep")
OUTPUT_STRIDES = (8, 16, 32)
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def layout(depth, output_stride, multi_grid, dilate_first_block):
    """Stride and dilation of the 3x3 convolution of every block.

    Args:
      depth: 50 or 101.
      output_stride: 8, 16 or 32. A stage that would go beyond it keeps its
        stride at 1 and doubles the dilation.
      multi_grid: three factors on the dilations of the last stage.
      dilate_first_block: False leaves the first block of a dilated stage at
        the dilation of the stage before (torchvision, CCT). Only then do
        features agree, for the same weights, between output strides.

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

    def __init__(self, width, stride, dilation, project, batch_norm):
        super().__init__()

        def block(filters, size=1, activation=tf.nn.relu, **options):
            return convolution.ConvBatchNorm(
                filters,
                size,
                activation=activation,
                batch_norm=batch_norm,
                fan="fan_out",
                **options,
            )

        self.reduce = block(width)
        self.spatial = block(width, 3, strides=stride, dilation=dilation)
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

    def __init__(self, stem, stages, output_stride, batch_norm):
        channels, stride = {}, 4
        for index, blocks in enumerate(stages):
            stride *= blocks[0][0]
            # Of two stages with the same stride the deeper one is exposed.
            channels[f"stride{stride}"] = 256 * 2**index
        super().__init__(feature_channels=channels, output_stride=output_stride)
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
        self.pool = keras.layers.MaxPool2D(3, 2)
        self.stages = [
            [
                Bottleneck(64 * 2**index, stride, dilation, n == 0, batch_norm)
                for n, (stride, dilation) in enumerate(blocks)
            ]
            for index, blocks in enumerate(stages)
        ]
        self.build(base.IMAGE_SHAPE)

    def features(self, image, training):
        x = (image - tf.constant(IMAGENET_MEAN)) / tf.constant(IMAGENET_STD)
        for layer in self.stem:
            x = layer(x, training=training)
        # Zeros do as well as PyTorch's -inf here: the input is after a ReLU.
        x = self.pool(convolution.pad(x, 1))
        features, stride = {}, 4
        for stage in self.stages:
            for block in stage:
                x = block(x, training=training)
            stride *= stage[0].spatial.convolution.strides[0]
            features[f"stride{stride}"] = x
        return features


def build(
    *,
    depth=50,
    stem="deep",
    output_stride=16,
    multi_grid=(1, 2, 4),
    dilate_first_block=True,
    weights="",
    batch_norm=batch_norms.factory(),
):
    """The encoder.

    Args:
      depth: 50 or 101.
      stem: "deep" is three 3x3 convolutions and 128 channels ("v1c": CPS,
        CCT, PSPNet), "plain" one 7x7 and 64 channels (torchvision, CAC).
      output_stride: 8, 16 or 32.
      multi_grid, dilate_first_block: see `layout`; (1, 2, 4) and True give
        CPS's and CAC's last stage 2, 4, 8 at output stride 16.
      weights: file that `save_weights` of such an encoder wrote, "" for none.
      batch_norm: function that makes a BatchNorm layer.

    Returns:
      base.Encoder.

    Raises:
      ValueError: for an unknown choice, or if `weights` does not exist.
    """
    base.check_choice("depth", depth, tuple(BLOCKS))
    base.check_choice("stem", stem, STEMS)
    base.check_choice("output_stride", output_stride, OUTPUT_STRIDES)
    if len(multi_grid) != 3 or min(multi_grid) < 1:
        raise ValueError(
            "`multi_grid` must be three factors of at least 1. "
            f"Received: multi_grid={tuple(multi_grid)}."
        )
    if weights:
        base.check_weights_exist(weights)
    stages = layout(depth, output_stride, multi_grid, dilate_first_block)
    encoder = ResNet(stem, stages, output_stride, batch_norm)
    if weights:
        encoder.load_pretrained(weights)
    return encoder
