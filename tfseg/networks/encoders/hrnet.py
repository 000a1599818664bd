# SPDX-License-Identifier: Apache-2.0
"""HRNetV2-W18, W32 and W48: up to four resolutions side by side.

Sun et al., arXiv 1904.04514; HRNet/HRNet-Semantic-Segmentation,
lib/models/seg_hrnet.py, and CPS's copy of it, TorchSemiSeg furnace/base_model/
hrnet.py. Variables come in the order of the PyTorch state dict.

Kernels start as PyTorch's layers do, which is where CPS's code leaves them if
it reads no ImageNet weights. The official code, and CPS's with such weights,
draws them from N(0, 0.001²) before it reads the file; without a file the signal
of an untrained network would end below float16's range.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base
from tfseg.networks.encoders import resnet
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, resize

WIDTHS = (18, 32, 48)
STEM_FILTERS = 64
# In the first stage, and on every branch of a module.
BLOCKS = 4
# Of the stages with two, three and four branches.
MODULES = (1, 4, 3)


def _convolution(filters, batch_norm, size=3, **options):
    return convolution.ConvBatchNorm(
        filters, size, batch_norm=batch_norm, **options
    )


def _run(layers, x, training):
    for layer in layers:
        x = layer(x, training=training)
    return x


class BasicBlock(keras.layers.Layer):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, filters, batch_norm):
        super().__init__()
        self.first = _convolution(filters, batch_norm)
        self.second = _convolution(filters, batch_norm, activation=None)

    def call(self, x, training=None):
        y = _run([self.first, self.second], x, training)
        return tf.nn.relu(x + y)


def path(source, target, channels, batch_norm):
    """Layers that bring branch `source` to the channels of `target`.

    To a smaller branch each layer halves the size, and only the last one
    changes the channels and has no ReLU. To a larger one it is a single 1x1
    convolution; the result still has to be resized.
    """
    if source > target:
        return [_convolution(channels[target], batch_norm, 1, activation=None)]
    steps = target - source
    return [
        _convolution(
            channels[target if last else source],
            batch_norm,
            strides=2,
            activation=None if last else tf.nn.relu,
        )
        for last in (step == steps - 1 for step in range(steps))
    ]


class Module(keras.layers.Layer):
    """Blocks on every branch, then each branch gets the sum of all.

    Args:
      channels: of the branches; each has half the size of the one before.
      batch_norm: function that makes a BatchNorm layer.
      align_corners: of the bilinear resizing.
    """

    def __init__(self, channels, batch_norm, align_corners):
        super().__init__()
        self.align_corners = align_corners
        indices = range(len(channels))
        self.branches = [
            [BasicBlock(filters, batch_norm) for _ in range(BLOCKS)]
            for filters in channels
        ]
        self.fuse = [
            [path(source, target, channels, batch_norm) for source in indices]
            for target in indices
        ]

    def call(self, maps, training=None):
        maps = [
            _run(blocks, x, training) for blocks, x in zip(self.branches, maps)
        ]
        return [
            self._sum(target, maps, training) for target in range(len(maps))
        ]

    def _sum(self, target, maps, training):
        size = tf.shape(maps[target])[1:3]
        terms = [_run(p, x, training) for p, x in zip(self.fuse[target], maps)]
        terms[target + 1 :] = [
            resize.bilinear(x, size, align_corners=self.align_corners)
            for x in terms[target + 1 :]
        ]
        return tf.nn.relu(tf.add_n(terms))


class Stage(keras.layers.Layer):
    """A transition to more branches, then modules.

    Every layer of `transition` makes one branch from the smallest map of the
    stage before. It stands for the last of the branches, those before it are
    taken over.
    """

    def __init__(self, transition, modules):
        super().__init__()
        self.transition = transition
        self.modules = modules

    def call(self, maps, training=None):
        new = [layer(maps[-1], training=training) for layer in self.transition]
        kept = len(self.modules[0].branches) - len(new)
        return _run(self.modules, [*maps[:kept], *new], training)


class HRNet(base.Encoder):
    """Features at strides 4, 8, 16 and 32: the four branches."""

    def __init__(self, width, *, batch_norm, align_corners, **options):
        channels = [width * 2**branch for branch in range(4)]
        strides = [f"stride{4 * 2 ** branch}" for branch in range(4)]
        super().__init__(
            feature_channels=dict(zip(strides, channels)),
            output_stride=32,
            architecture=f"hrnet_w{width}",
            **options,
        )
        self.stem = [
            _convolution(STEM_FILTERS, batch_norm, strides=2) for _ in range(2)
        ]
        self.blocks = [
            resnet.Bottleneck(
                STEM_FILTERS, 1, 1, project=n == 0, batch_norm=batch_norm
            )
            for n in range(BLOCKS)
        ]
        self.stages = [
            Stage(
                # Only the first transition changes the largest branch.
                [_convolution(width, batch_norm)] * (branches == 2)
                + [_convolution(channels[branches - 1], batch_norm, strides=2)],
                [
                    Module(channels[:branches], batch_norm, align_corners)
                    for _ in range(modules)
                ],
            )
            for branches, modules in zip((2, 3, 4), MODULES)
        ]
        for layer in self.submodules:
            if isinstance(layer, keras.layers.Conv2D):
                layer.kernel_initializer = convolution.pytorch_default()
        self.build(base.IMAGE_SHAPE)

    def features(self, image, training):
        x = _run(self.stem + self.blocks, self.normalize(image), training)
        maps = _run(self.stages, [x], training)
        return dict(zip(self.feature_channels, maps))


def build(
    *,
    width=48,
    align_corners=True,
    normalization="torch",
    batch_norm=batch_norms.factory(momentum=0.99),
):
    """The encoder.

    Args:
      width: channels of the largest branch: 18, 32 or 48.
      align_corners: of the bilinear resizing between branches.
      normalization: see `base.NORMALIZATIONS`.
      batch_norm: function that makes a BatchNorm layer.

    Returns:
      base.Encoder with output stride 32.

    Raises:
      ValueError: for an unknown choice.
    """
    base.check_choice("width", width, WIDTHS)
    return HRNet(
        width,
        batch_norm=batch_norm,
        align_corners=align_corners,
        normalization=normalization,
    )
