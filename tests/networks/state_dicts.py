# SPDX-License-Identifier: Apache-2.0
"""Names and shapes in official checkpoints, and whether rules cover them."""

import json

import numpy as np

from tfseg.networks.weights.names import base

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def golden(vectors):
    """Entries of the golden network whose tables are in `vectors`."""
    return {
        name: shape
        for table in ("param_table", "buffer_table")
        for name, shape in json.loads(str(vectors[table]))
    }


def conv(name, outputs, inputs, size=1, bias=False):
    """Entries of a torch.nn.Conv2d."""
    entries = {f"{name}.weight": [outputs, inputs, size, size]}
    return {**entries, f"{name}.bias": [outputs]} if bias else entries


def norm(name, channels):
    """Entries of a torch.nn.BatchNorm2d."""
    words = ("weight", "bias", "running_mean", "running_var")
    entries = {f"{name}.{word}": [channels] for word in words}
    return {**entries, f"{name}.num_batches_tracked": []}


def conv_norm(conv_name, norm_name, outputs, inputs, size=1):
    """Entries of a convolution without bias and its BatchNorm."""
    return {
        **conv(conv_name, outputs, inputs, size),
        **norm(norm_name, outputs),
    }


def _block(prefix, inputs, width, shortcut):
    entries = {
        **conv_norm(f"{prefix}.conv1", f"{prefix}.bn1", width, inputs),
        **conv_norm(f"{prefix}.conv2", f"{prefix}.bn2", width, width, 3),
        **conv_norm(f"{prefix}.conv3", f"{prefix}.bn3", 4 * width, width),
    }
    if shortcut:
        names = [f"{prefix}.downsample.{n}" for n in (0, 1)]
        entries.update(conv_norm(*names, 4 * width, inputs))
    return entries


def stages(names, inputs, depth=50):
    """Entries of the four stages of a ResNet, called `names`."""
    entries = {}
    for index, (name, blocks) in enumerate(zip(names, BLOCKS[depth])):
        width = 64 * 2**index
        for n in range(blocks):
            entries.update(_block(f"{name}.{n}", inputs, width, n == 0))
            inputs = 4 * width
    return entries


def plain_resnet(prefix, depth=50):
    """Entries of a torchvision ResNet without its classifier."""
    names = [f"{prefix}layer{n}" for n in (1, 2, 3, 4)]
    return {
        **conv_norm(f"{prefix}conv1", f"{prefix}bn1", 64, 3, 7),
        **stages(names, 64, depth),
    }


def deep_stem(prefix):
    """Entries of a stem of three convolutions, as CCT and CSAIL call them."""
    entries = {}
    for n, (outputs, inputs) in enumerate([(64, 3), (64, 64), (128, 64)], 1):
        names = f"{prefix}conv{n}", f"{prefix}bn{n}"
        entries.update(conv_norm(*names, outputs, inputs, 3))
    return entries


def pyramid(branch, merge):
    """Entries of pyramid pooling to 512 channels over four grids."""
    entries = {}
    for n in range(4):
        names = [f"{branch}.{n}.{m}" for m in (1, 2)]
        entries.update(conv_norm(*names, 512, 2048))
    names = [f"{merge}.{m}" for m in (0, 1)]
    return {**entries, **conv_norm(*names, 512, 4096, 3)}


def count(entries):
    """Number of parameters."""
    return sum(
        int(np.prod(shape))
        for name, shape in entries.items()
        if name.endswith(("weight", "bias"))
    )


def assert_covered(network, family, entries, unwanted=()):
    """Every entry has its variable and the other way round.

    Args:
      network: base.Network.
      family: module with RULES and DROPPED.
      entries: {name: PyTorch's shape}.
      unwanted: the names that are dropped.

    Returns:
      {name: path}.
    """
    tensors = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in entries.items()
    }
    variables = base.paths(network)
    targets = base.by_rules(family.RULES)
    found = base.fit(tensors, variables, targets, family.DROPPED)
    assert not found.problems(), found.problems()
    assert found.dropped == list(unwanted)
    assert {match.path for match in found.matched} == set(variables)
    return {match.name: match.path for match in found.matched}


def assert_in_order(network, names):
    """The names come in the order of the variables.

    So what the rules match is what a recipe by order would assign, also where
    shapes leave a choice.
    """
    order = list(base.paths(network))
    for is_statistic in (False, True):
        kind = [p for p in names.values() if ("/moving_" in p) == is_statistic]
        assert kind == sorted(kind, key=order.index)
