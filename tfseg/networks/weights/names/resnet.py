# SPDX-License-Identifier: Apache-2.0
"""ResNets: torchvision's names, and what others call a deep stem.

    torchvision, CAC            conv1 bn1, layer1.0.conv1 ...
    CPS (resnet50_v1c.pth)      conv1.0 conv1.1 conv1.3 conv1.4 conv1.6 bn1
    CCT (3x3resnet50-imagenet)  conv1 bn1 conv2 bn2 conv3 bn3, also `prefix.`

So `bn1` is the first BatchNorm of the stem, or the last in CPS: their
channels tell. Blocks have the same names everywhere.
"""

_BLOCK = {
    r"conv1": "reduce/convolution",
    r"bn1": "reduce/batch_norm",
    r"conv2": "spatial/convolution",
    r"bn2": "spatial/batch_norm",
    r"conv3": "expand/convolution",
    r"bn3": "expand/batch_norm",
    r"downsample\.0": "shortcut/convolution",
    r"downsample\.1": "shortcut/batch_norm",
}

STEM = [
    (rf"(?:prefix\.)?{kind}{n + 1}", rf"stem/{n}/{layer}")
    for n in range(3)
    for kind, layer in [("conv", "convolution"), ("bn", "batch_norm")]
] + [
    (r"conv1\.0", "stem/0/convolution"),
    (r"conv1\.1", "stem/0/batch_norm"),
    (r"conv1\.3", "stem/1/convolution"),
    (r"conv1\.4", "stem/1/batch_norm"),
    (r"conv1\.6", "stem/2/convolution"),
    (r"bn1", "stem/2/batch_norm"),
]


def stage(source, index):
    """Rules for the blocks of one stage.

    Args:
      source: what the state dict calls the stage, for example "layer1".
      index: of the stage in our encoder.
    """
    return [
        (rf"{source}\.(\d+)\.{name}", rf"stages/{index}/\1/{layer}")
        for name, layer in _BLOCK.items()
    ]


RULES = STEM + [
    rule for index in range(4) for rule in stage(f"layer{index + 1}", index)
]
DROPPED = [r"fc"]
