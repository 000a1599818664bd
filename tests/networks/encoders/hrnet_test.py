# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests.networks import full_hrnet
from tfseg.networks.encoders import hrnet
from tfseg.networks.layers import batch_norm


def encoder():
    return full_hrnet.network().encoder


def conv(inputs, outputs, size=3):
    """Parameters of a convolution without bias and its BatchNorm."""
    return inputs * outputs * size * size + 2 * outputs


def by_hand(width):
    """Parameters of the encoder."""
    channels = [width, 2 * width, 4 * width, 8 * width]
    total = conv(3, 64) + conv(64, 64) + conv(64, 256, 1)
    for inputs in (64, 256, 256, 256):
        total += conv(inputs, 64, 1) + conv(64, 64) + conv(64, 256, 1)
    total += conv(256, channels[0]) + conv(256, channels[1])
    total += conv(channels[1], channels[2]) + conv(channels[2], channels[3])
    for branches, modules in ((2, 1), (3, 4), (4, 3)):
        for target in range(branches):
            total += modules * 8 * conv(channels[target], channels[target])
            for source in range(branches):
                total += modules * fuse(channels, source, target)
    return total


def fuse(channels, source, target):
    if source > target:
        return conv(channels[source], channels[target], 1)
    if source == target:
        return 0
    kept = (target - source - 1) * conv(channels[source], channels[source])
    return kept + conv(channels[source], channels[target])


@pytest.mark.parametrize(
    "width, expected", [(18, 9562260), (32, 29305536), (48, 65325120)]
)
def test_parameters(width, expected):
    # Counted in the published architecture, written in PyTorch beside this
    # repository. The authors state 65.9 million for W48 with its head.
    assert by_hand(width) == expected
    # No number of channels but 3, 64 and 256 is without the width in it.
    scaled = [
        [n // 18 * width if n % 18 == 0 else n for n in v.shape]
        for v in encoder().trainable_variables
    ]
    assert sum(int(np.prod(shape)) for shape in scaled) == expected


def test_layout():
    assert len(encoder().stem) == 2 and len(encoder().blocks) == 4
    assert [len(stage.modules) for stage in encoder().stages] == [1, 4, 3]
    for index, stage in enumerate(encoder().stages):
        for module in stage.modules:
            assert [len(blocks) for blocks in module.branches] == [4] * (
                index + 2
            )
            for target, paths in enumerate(module.fuse):
                for source, path in enumerate(paths):
                    strides = [layer.convolution.strides[0] for layer in path]
                    down = [2] * (target - source)
                    assert strides == ([1] if source > target else down)
    strides = [
        [layer.convolution.strides[0] for layer in stage.transition]
        for stage in encoder().stages
    ]
    assert strides == [[1, 2], [2], [2]]


@pytest.mark.parametrize(
    "image, expected",
    [
        ((33, 49), [(9, 13), (5, 7), (3, 4), (2, 2)]),
        ((1, 20), [(1, 5), (1, 3), (1, 2), (1, 1)]),
    ],
)
def test_sizes_of_the_features(image, expected):
    x = np.random.RandomState(0).uniform(0, 255, (1, *image, 3))
    features = encoder()(x.astype(np.float32))
    names = ["stride4", "stride8", "stride16", "stride32"]
    assert list(encoder().feature_channels) == names
    shapes = [tuple(features[name].shape[1:]) for name in names]
    widths = (18, 36, 72, 144)
    assert shapes == [(*size, w) for size, w in zip(expected, widths)]


def normalized(x, layer):
    gamma, beta, mean, variance = layer.get_weights()
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def convolved(x, layer, rectified):
    """Zeros outside; windows are centered on every `stride`-th position."""
    kernel = layer.convolution.kernel.numpy()
    stride = layer.convolution.strides[0]
    height, width = x.shape[1:3]
    margin = kernel.shape[0] // 2
    x = np.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    y = sum(
        x[:, i : i + height : stride, j : j + width : stride] @ kernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )
    y = normalized(y, layer.batch_norm)
    return np.maximum(y, 0) if rectified else y


def interpolation(before, after, align_corners):
    """[after, before] weights of linear interpolation."""
    if align_corners:
        position = np.linspace(0, before - 1, after)
    else:
        position = (np.arange(after) + 0.5) * before / after - 0.5
    return np.array(
        [np.interp(position, np.arange(before), row) for row in np.eye(before)]
    ).T


def resized(x, size, align_corners):
    rows = interpolation(x.shape[1], size[0], align_corners)
    columns = interpolation(x.shape[2], size[1], align_corners)
    return np.einsum("yh,xw,bhwc->byxc", rows, columns, x)


def blocks_by_hand(x, blocks):
    for block in blocks:
        y = convolved(convolved(x, block.first, True), block.second, False)
        x = np.maximum(x + y, 0)
    return x


def sum_by_hand(module, target, maps):
    """Before the last ReLU."""
    total = 0
    for source, x in enumerate(maps):
        path = module.fuse[target][source]
        for layer in path:
            x = convolved(x, layer, rectified=layer is not path[-1])
        if source > target:
            x = resized(x, maps[target].shape[1:3], module.align_corners)
        total += x
    return total


@pytest.mark.parametrize("align_corners", [True, False])
def test_module_is_the_oracle(align_corners):
    module = hrnet.Module((2, 3, 4), batch_norm.factory(), align_corners)
    random = np.random.RandomState(0)
    inputs = [
        random.randn(2, *size, width).astype(np.float32)
        for size, width in (((5, 7), 2), ((3, 4), 3), ((2, 2), 4))
    ]
    module(inputs)
    for variable in module.variables:
        positive = not variable.name.endswith(("kernel:0", "beta:0"))
        low = 0.2 if positive else -1.0
        variable.assign(random.uniform(low, 1.0, variable.shape))
    maps = [blocks_by_hand(*pair) for pair in zip(inputs, module.branches)]
    expected = [sum_by_hand(module, target, maps) for target in range(3)]
    assert all((x < 0).any() and (x > 0).any() for x in expected)
    for call in (module, tf.function(module)):
        for found, x in zip(call(inputs), expected):
            atol = 1e-5 * np.abs(x).max()
            np.testing.assert_allclose(found, np.maximum(x, 0), atol=atol)


def test_new_branches_come_from_the_smallest_map():
    class Modules:
        branches = [None] * 3

        def __call__(self, maps, training):
            return maps + ["module"]

    def layer(x, training):
        return f"new from {x}"

    stage = hrnet.Stage([], [])
    stage.modules = (Modules(),)
    for new, expected in (
        ([layer], ["a", "b", "new from b", "module"]),
        ([layer] * 3, ["new from b"] * 3 + ["module"]),
    ):
        stage.transition = new
        assert stage.call(["a", "b"]) == expected


def test_kernels_start_as_pytorchs_do():
    for layer in (
        encoder().blocks[1].spatial,
        encoder().stages[2].modules[2].branches[3][3].second,
    ):
        kernel = np.abs(layer.convolution.kernel.numpy())
        bound = np.prod(kernel.shape[:3]) ** -0.5
        assert 0.99 * bound < kernel.max() < 1.0001 * bound
        np.testing.assert_allclose(kernel.mean(), bound / 2, rtol=0.02)


def test_bad_width_is_named():
    with pytest.raises(
        ValueError, match="`width` must be one of 18, 32, 48.*width=40"
    ):
        hrnet.build(width=40)
