# SPDX-License-Identifier: Apache-2.0
"""Small encoders by name: MobileNetV3 and EfficientNetV2 of keras-cv, and MiT.

Howard et al., arXiv 1905.02244 (tables 1 and 2); Tan and Le, arXiv 2104.00298
(table 4, and the B variants of the official code); MiT is in `encoders.mit`.
One adapter makes an encoder of any of keras-cv's backbones that has pyramid
levels P1 to P5.

Differences from keras-cv on purpose:
  Any image size. Where keras-cv does not know the size it pads a convolution
    with stride as for an even one, which loses the last row of an odd map and
    fails on a single pixel. Here it is SAME, which is the same at even sizes
    and what keras.applications does at odd ones.
  The image is normalized as `normalization` says, in float32, and not divided
    by 255: half precision could not hold it otherwise.
  BatchNorm has the momentum, epsilon, ... of our option. keras-cv fixes
    momentum 0.999 and 0.9.
  EfficientNetV2 has no stochastic depth (rate up to 0.2 in the paper): keras-cv
    does it by a Dropout layer that keeps its random state out of checkpoints.
  MobileNetV3 starts from He-normal kernels by fan-out as in torchvision, and
    as EfficientNetV2 does. With keras-cv's Glorot-uniform ones the top feature
    of the untrained network is about 1e-10, nothing in float16.
"""

import functools

import keras_cv
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.encoders import mit
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution

# One block: kernel, expansion, filters, squeeze-excite, activation, stride.
MOBILENET_V3 = {
    "small": (
        (3, 1, 16, 0.25, "relu", 2),
        (3, 72 / 16, 24, None, "relu", 2),
        (3, 88 / 24, 24, None, "relu", 1),
        (5, 4, 40, 0.25, "hard_swish", 2),
        *[(5, 6, 40, 0.25, "hard_swish", 1)] * 2,
        *[(5, 3, 48, 0.25, "hard_swish", 1)] * 2,
        (5, 6, 96, 0.25, "hard_swish", 2),
        *[(5, 6, 96, 0.25, "hard_swish", 1)] * 2,
    ),
    "large": (
        (3, 1, 16, None, "relu", 1),
        (3, 4, 24, None, "relu", 2),
        (3, 3, 24, None, "relu", 1),
        (5, 3, 40, 0.25, "relu", 2),
        *[(5, 3, 40, 0.25, "relu", 1)] * 2,
        (3, 6, 80, None, "hard_swish", 2),
        (3, 2.5, 80, None, "hard_swish", 1),
        *[(3, 2.3, 80, None, "hard_swish", 1)] * 2,
        *[(3, 6, 112, 0.25, "hard_swish", 1)] * 2,
        (5, 6, 160, 0.25, "hard_swish", 2),
        *[(5, 6, 160, 0.25, "hard_swish", 1)] * 2,
    ),
}
# One stage: kind, repeats, filters before and after, expansion,
# squeeze-excite, stride. Kernels are 3x3.
EFFICIENTNET_V2 = {
    "b": (
        ("fused", 1, 32, 16, 1, 0, 1),
        ("fused", 2, 16, 32, 4, 0, 2),
        ("fused", 2, 32, 48, 4, 0, 2),
        ("unfused", 3, 48, 96, 4, 0.25, 2),
        ("unfused", 5, 96, 112, 6, 0.25, 1),
        ("unfused", 8, 112, 192, 6, 0.25, 2),
    ),
    "s": (
        ("fused", 2, 24, 24, 1, 0, 1),
        ("fused", 4, 24, 48, 4, 0, 2),
        ("fused", 4, 48, 64, 4, 0, 2),
        ("unfused", 6, 64, 128, 4, 0.25, 2),
        ("unfused", 9, 128, 160, 6, 0.25, 1),
        ("unfused", 15, 160, 256, 6, 0.25, 2),
    ),
}


def mobilenet_v3(size):
    """keras-cv's MobileNetV3, "small" or "large"."""
    kernels, expansions, filters, ratios, activations, strides = map(
        list, zip(*MOBILENET_V3[size])
    )
    backbone = keras_cv.models.MobileNetV3Backbone(
        stackwise_kernel_size=kernels,
        stackwise_expansion=expansions,
        stackwise_filters=filters,
        stackwise_se_ratio=ratios,
        stackwise_activation=activations,
        stackwise_stride=strides,
        include_rescaling=False,
    )
    for variable in backbone.trainable_variables:
        if variable.shape.rank == 4:
            start = convolution.kaiming_normal("fan_out")
            variable.assign(start(variable.shape))
    return backbone


def efficientnet_v2(family, width=1.0, depth=1.0):
    """keras-cv's EfficientNetV2: "s", or "b" with factors on its layout."""
    kinds, repeats, before, after, expansions, ratios, strides = map(
        list, zip(*EFFICIENTNET_V2[family])
    )
    return keras_cv.models.EfficientNetV2Backbone(
        stackwise_conv_types=kinds,
        stackwise_num_repeats=repeats,
        stackwise_input_filters=before,
        stackwise_output_filters=after,
        stackwise_expansion_ratios=expansions,
        stackwise_squeeze_and_excite_ratios=ratios,
        stackwise_strides=strides,
        stackwise_kernel_sizes=[3] * len(kinds),
        width_coefficient=width,
        depth_coefficient=depth,
        skip_connection_dropout=0.0,
        include_rescaling=False,
    )


BACKBONES = {
    "mobilenet_v3_small": functools.partial(mobilenet_v3, "small"),
    "mobilenet_v3_large": functools.partial(mobilenet_v3, "large"),
    "efficientnet_v2_b0": functools.partial(efficientnet_v2, "b"),
    "efficientnet_v2_b1": functools.partial(efficientnet_v2, "b", 1.0, 1.1),
    "efficientnet_v2_b2": functools.partial(efficientnet_v2, "b", 1.1, 1.2),
    "efficientnet_v2_b3": functools.partial(efficientnet_v2, "b", 1.2, 1.4),
    "efficientnet_v2_s": functools.partial(efficientnet_v2, "s"),
}
NAMES = (*BACKBONES, *(f"mit_{size}" for size in mit.LAYOUTS))


class KerasCV(base.Encoder):
    """Features at strides 2, 4, 8, 16 and 32; the last is the whole backbone.

    Args:
      backbone: keras_cv.models.Backbone for images of any size, without
        rescaling; it is changed.
      batch_norm: function that makes a BatchNorm layer.
      normalization: see `base.NORMALIZATIONS`.
    """

    def __init__(self, backbone, *, batch_norm, normalization):
        levels = backbone.pyramid_level_inputs
        maps = [backbone.get_layer(levels[f"P{n}"]).output for n in range(1, 5)]
        # MobileNetV3 has a convolution after its P5.
        maps.append(backbone.output)
        names = [f"stride{2**n}" for n in range(1, 6)]
        super().__init__(
            feature_channels={k: v.shape[3] for k, v in zip(names, maps)},
            output_stride=32,
            normalization=normalization,
        )
        _pad_as_same(backbone)
        _set_batch_norm(backbone, batch_norm())
        self.model = keras.Model(backbone.input, maps)
        self.build(base.IMAGE_SHAPE)

    def features(self, image, training):
        maps = self.model(self.normalize(image), training=training)
        return dict(zip(self.feature_channels, maps))


def build(
    *,
    name="mobilenet_v3_small",
    normalization="torch",
    batch_norm=batch_norms.factory(),
):
    """The encoder.

    Args:
      name: one of NAMES.
      normalization: see `base.NORMALIZATIONS`.
      batch_norm: function that makes a BatchNorm layer. MiT has none.

    Returns:
      base.Encoder with output stride 32.

    Raises:
      ValueError: for an unknown choice.
    """
    base.check_choice("name", name, NAMES)
    if name not in BACKBONES:
        return mit.build(size=name[len("mit_") :], normalization=normalization)
    return KerasCV(
        BACKBONES[name](), batch_norm=batch_norm, normalization=normalization
    )


def _pad_as_same(backbone):
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.ZeroPadding2D):
            layer.padding = ((0, 0), (0, 0))
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.padding = "same"


def _set_batch_norm(backbone, wanted):
    for layer in backbone.submodules:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum, layer.epsilon = wanted.momentum, wanted.epsilon
            layer.trainable = wanted.trainable
            layer.synchronized = wanted.synchronized
            if wanted.synchronized:
                # The fused kernel knows only its own replica.
                layer.fused = False
