# SPDX-License-Identifier: Apache-2.0
"""Official HRNetV2 files -> `encoders.hrnet` or the whole `hrnet` network.

RULES and DROPPED are for an encoder, from an ImageNet file (HRNet-Image-
Classification) or from a segmentation file. NETWORK_RULES and NETWORK_DROPPED
are for a whole network, from a segmentation file (HRNet-Semantic-Segmentation
and CPS). Segmentation files of the official code hold the network with its
loss: "model.conv1.weight", "loss.criterion.weight".
"""

_PARTS = ("convolution", "batch_norm")
# Of a residual block: the n-th convolution and BatchNorm.
_BASIC = ("first", "second")
_BOTTLENECK = ("reduce", "spatial", "expand")

_MODEL = r"(?:model\.)?"


def _pair(pattern, target):
    """Rules for a convolution and a BatchNorm that are numbered 0 and 1."""
    return [
        (rf"{pattern}\.{index}", f"{target}/{part}")
        for index, part in enumerate(_PARTS)
    ]


def _numbered(pattern, targets):
    """Rules for conv1, bn1, conv2, bn2, ... of a residual block."""
    return [
        (rf"{pattern}{word}{index + 1}", f"{target}/{part}")
        for index, target in enumerate(targets)
        for word, part in zip(("conv", "bn"), _PARTS)
    ]


def _stage(index):
    """Rules for a transition and the stage after it."""
    source = rf"stage{index + 2}\.(\d+)"
    target = rf"stages/{index}/modules/\1"
    return [
        *_numbered(
            rf"{source}\.branches\.(\d+)\.(\d+)\.",
            [rf"{target}/branches/\2/\3/{name}" for name in _BASIC],
        ),
        # Up: one convolution. Down: a list of them.
        *_pair(
            rf"{source}\.fuse_layers\.(\d+)\.(\d+)", rf"{target}/fuse/\2/\3/0"
        ),
        *_pair(
            rf"{source}\.fuse_layers\.(\d+)\.(\d+)\.(\d+)",
            rf"{target}/fuse/\2/\3/\4",
        ),
    ]


_ENCODER = [
    *_numbered("", ["stem/0", "stem/1"]),
    *_numbered(
        r"layer1\.(\d+)\.", [rf"blocks/\1/{name}" for name in _BOTTLENECK]
    ),
    *_pair(r"layer1\.(\d+)\.downsample", r"blocks/\1/shortcut"),
    *_pair(r"transition1\.0", "stages/0/transition/0"),
    *_pair(r"transition1\.1\.0", "stages/0/transition/1"),
    *_pair(r"transition2\.2\.0", "stages/1/transition/0"),
    *_pair(r"transition3\.3\.0", "stages/2/transition/0"),
    *(rule for index in range(3) for rule in _stage(index)),
]

_HEAD = [
    (r"last_layer\.0", "merge"),
    (r"last_layer\.1", "merge_norm"),
    (r"last_layer\.3", "classifier"),
]

RULES = [(_MODEL + pattern, target) for pattern, target in _ENCODER]

DROPPED = [
    r"(incre_modules|downsamp_modules|final_layer)\..+",
    r"classifier",
    _MODEL + r"last_layer\.\d",
    r"loss\.criterion",
]

NETWORK_RULES = [
    (_MODEL + pattern, f"{part}/{target}")
    for part, rules in (("encoder", _ENCODER), ("decoder", _HEAD))
    for pattern, target in rules
]

NETWORK_DROPPED = [r"loss\.criterion"]
