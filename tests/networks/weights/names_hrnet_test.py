# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from tests.networks import full_hrnet
from tfseg.networks.weights.names import base
from tfseg.networks.weights.names import hrnet as names

MODULES = {2: 1, 3: 4, 4: 3}


def network():
    return full_hrnet.network()


def conv_norm(conv, norm, inputs, outputs, size):
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {
        f"{conv}.weight": (outputs, inputs, size, size),
        **{f"{norm}.{leaf}": (outputs,) for leaf in leaves},
        f"{norm}.num_batches_tracked": (),
    }


def sequential(name, inputs, outputs, size):
    return conv_norm(f"{name}.0", f"{name}.1", inputs, outputs, size)


def bottleneck(name, inputs, width):
    entries = conv_norm(f"{name}.conv1", f"{name}.bn1", inputs, width, 1)
    entries |= conv_norm(f"{name}.conv2", f"{name}.bn2", width, width, 3)
    entries |= conv_norm(f"{name}.conv3", f"{name}.bn3", width, 4 * width, 1)
    if inputs != 4 * width:
        entries |= sequential(f"{name}.downsample", inputs, 4 * width, 1)
    return entries


def module(name, channels):
    entries = {}
    for branch, width in enumerate(channels):
        for block in range(4):
            for n in (1, 2):
                path = f"{name}.branches.{branch}.{block}"
                entries |= conv_norm(
                    f"{path}.conv{n}", f"{path}.bn{n}", width, width, 3
                )
    for i, outputs in enumerate(channels):
        for j, inputs in enumerate(channels):
            path = f"{name}.fuse_layers.{i}.{j}"
            if j > i:
                entries |= sequential(path, inputs, outputs, 1)
            for k in range(i - j):
                last = outputs if k == i - j - 1 else inputs
                entries |= sequential(f"{path}.{k}", inputs, last, 3)
    return entries


def backbone(width):
    """Names and shapes of the official state dict, in its order."""
    channels = [width, 2 * width, 4 * width, 8 * width]
    entries = conv_norm("conv1", "bn1", 3, 64, 3)
    entries |= conv_norm("conv2", "bn2", 64, 64, 3)
    for block in range(4):
        entries |= bottleneck(f"layer1.{block}", 256 if block else 64, 64)
    entries |= sequential("transition1.0", 256, channels[0], 3)
    entries |= sequential("transition1.1.0", 256, channels[1], 3)
    for stage, modules in MODULES.items():
        if stage > 2:
            new = f"transition{stage - 1}.{stage - 1}.0"
            entries |= sequential(new, *channels[stage - 2 : stage], 3)
        for n in range(modules):
            entries |= module(f"stage{stage}.{n}", channels[:stage])
    return entries


def imagenet_head(width):
    entries, widths = {}, (32, 64, 128, 256)
    for n, head in enumerate(widths):
        name = f"incre_modules.{n}.0"
        entries |= bottleneck(name, width * 2**n, head)
    for n, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        name = f"downsamp_modules.{n}"
        entries |= sequential(name, 4 * inputs, 4 * outputs, 3)
        entries[f"{name}.0.bias"] = (4 * outputs,)
    entries |= sequential("final_layer", 1024, 2048, 1)
    entries["final_layer.0.bias"] = (2048,)
    return entries | {
        "classifier.weight": (1000, 2048),
        "classifier.bias": (1000,),
    }


def segmentation_head(width, num_classes):
    total = 15 * width
    entries = sequential("last_layer", total, total, 1)
    entries["last_layer.0.bias"] = (total,)
    entries["last_layer.3.weight"] = (num_classes, total, 1, 1)
    return entries | {"last_layer.3.bias": (num_classes,)}


def fit(shapes, variables, rules, dropped):
    """Fits arrays of zeros; no name may have two targets."""
    targets = base.by_rules(rules)
    tensors = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in shapes.items()
    }
    for name in tensors:
        assert len(targets(name.rpartition(".")[0])) <= 1, name
    return base.fit(tensors, variables, targets, dropped)


def without_counters(entries):
    """They lead nowhere, and need not be listed."""
    return {name for name in entries if not name.endswith("batches_tracked")}


def test_all_of_imagenet_fits_in_its_order():
    encoder = network().encoder
    shapes = backbone(18) | imagenet_head(18)
    found = fit(shapes, base.paths(encoder), names.RULES, names.DROPPED)
    assert found.problems() == ""
    assert len(found.matched) == len(encoder.variables) == 1525
    assert without_counters(found.dropped) == without_counters(
        imagenet_head(18)
    )
    trained = {id(v) for v in encoder.trainable_variables}
    order = [found.variables[match.path] for match in found.matched]
    assert [id(v) for v in order if id(v) in trained] == [
        id(v) for v in encoder.trainable_variables
    ]


@pytest.mark.parametrize("prefix", ["", "model."])
def test_all_of_a_segmentation_file_fits(prefix):
    shapes = backbone(18) | segmentation_head(18, 19)
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    shapes["loss.criterion.weight"] = (5,)
    rules, dropped = names.NETWORK_RULES, names.NETWORK_DROPPED
    found = fit(shapes, base.paths(network()), rules, dropped)
    assert found.problems() == ""
    assert len(found.matched) == len(network().variables) == 1533
    assert found.dropped == ["loss.criterion.weight"]
    # Its encoder alone, to train with other classes.
    encoder = network().encoder
    found = fit(shapes, base.paths(encoder), names.RULES, names.DROPPED)
    assert found.problems() == ""
    assert without_counters(found.dropped) == without_counters(
        [prefix + name for name in segmentation_head(18, 19)]
        + ["loss.criterion.weight"]
    )


@pytest.mark.parametrize("width", [32, 48])
def test_all_of_a_wider_one_fits(width):
    class Variable:
        def __init__(self, shape):
            scaled = [n // 18 * width if n % 18 == 0 else n for n in shape]
            self.shape = tuple(scaled)

    variables = base.paths(network().encoder)
    wide = {path: Variable(v.shape) for path, v in variables.items()}
    found = fit(backbone(width), wide, names.RULES, names.DROPPED)
    assert not found.missing and not found.unmatched and not found.misshaped
    assert len(found.matched) == 1525


def test_another_width_does_not_fit():
    variables = base.paths(network().encoder)
    shapes = backbone(32)
    found = fit(shapes, variables, names.RULES, names.DROPPED)
    assert len(found.misshaped) > 1000 and not found.unmatched


def test_paths_of_a_few_names():
    targets = base.by_rules(names.RULES)
    for name, path in (
        ("conv2", "stem/1/convolution"),
        ("layer1.0.downsample.1", "blocks/0/shortcut/batch_norm"),
        ("transition3.3.0.1", "stages/2/transition/0/batch_norm"),
        (
            "stage3.2.branches.1.3.bn2",
            "stages/1/modules/2/branches/1/3/second/batch_norm",
        ),
        (
            "stage4.0.fuse_layers.0.3.0",
            "stages/2/modules/0/fuse/0/3/0/convolution",
        ),
        (
            "stage4.0.fuse_layers.3.0.2.1",
            "stages/2/modules/0/fuse/3/0/2/batch_norm",
        ),
    ):
        assert targets(name) == [path]
