# SPDX-License-Identifier: Apache-2.0
import functools
import re

import numpy as np
import pytest

from tfseg.networks import dense_unet
from tfseg.networks.encoders import densenet
from tfseg.networks.weights.names import base
from tfseg.networks.weights.names import densenet as names


@functools.lru_cache(maxsize=None)
def network():
    return dense_unet.build(num_classes=5, depth=121)


def kernel(name, inputs, outputs, size):
    return {f"{name}.weight": (outputs, inputs, size, size)}


def norm(name, channels):
    leaves = ("weight", "bias", "running_mean", "running_var")
    entries = {f"{name}.{leaf}": (channels,) for leaf in leaves}
    return {**entries, f"{name}.num_batches_tracked": ()}


def torchvision(stem, growth, stages):
    """Names and shapes of the state dict, in its order."""
    entries = kernel("features.conv0", 3, stem, 7)
    entries |= norm("features.norm0", stem)
    channels = stem
    for stage, layers in enumerate(stages, 1):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{stage}.denselayer{layer}"
            entries |= norm(f"{name}.norm1", channels)
            entries |= kernel(f"{name}.conv1", channels, 4 * growth, 1)
            entries |= norm(f"{name}.norm2", 4 * growth)
            entries |= kernel(f"{name}.conv2", 4 * growth, growth, 3)
            channels += growth
        if stage < 4:
            name = f"features.transition{stage}"
            entries |= norm(f"{name}.norm", channels)
            entries |= kernel(f"{name}.conv", channels, channels // 2, 1)
            channels //= 2
    entries |= norm("features.norm5", channels)
    entries["classifier.weight"] = (1000, channels)
    return {**entries, "classifier.bias": (1000,)}


DENSENET121 = torchvision(64, 32, (6, 12, 24, 16))


def fit(shapes, model, rules, dropped):
    """Fits arrays of zeros; no name may have two targets."""
    targets = base.by_rules(rules)
    tensors = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in shapes.items()
    }
    for name in tensors:
        assert len(targets(name.rpartition(".")[0])) <= 1, name
    return base.fit(tensors, base.paths(model), targets, dropped)


def in_the_old_spelling(name):
    return re.sub(r"(denselayer\d+\.(norm|conv))([12])", r"\1.\3", name)


@pytest.mark.parametrize("spelling", [str, in_the_old_spelling])
def test_all_of_torchvision_fits_in_its_order(spelling):
    shapes = {spelling(name): shape for name, shape in DENSENET121.items()}
    assert (shapes == DENSENET121) == (spelling is str)
    encoder = network().encoder
    found = fit(shapes, encoder, names.RULES, names.DROPPED)
    assert found.problems() == ""
    assert found.dropped == ["classifier.weight", "classifier.bias"]
    assert len(found.matched) == len(encoder.variables)
    trained = {id(v) for v in encoder.trainable_variables}
    order = [found.variables[match.path] for match in found.matched]
    assert [id(v) for v in order if id(v) in trained] == [
        id(v) for v in encoder.trainable_variables
    ]


def test_numbers_start_at_one_in_torchvision():
    (path,) = base.by_rules(names.RULES)(
        "features.denseblock2.denselayer12.conv2"
    )
    assert path == "stages/1/dense_layers/11/conv2"
    (path,) = base.by_rules(names.RULES)("features.transition3.norm")
    assert path == "stages/3/transition/norm"


@pytest.mark.parametrize("depth", densenet.LAYOUTS)
def test_every_layer_of_each_depth_has_a_path_of_its_own(depth):
    modules = {
        name.rpartition(".")[0]
        for name in torchvision(*densenet.LAYOUTS[depth])
    }
    modules.remove("classifier")
    paths = [base.by_rules(names.RULES)(module) for module in modules]
    assert {len(targets) for targets in paths} == {1}
    assert len({path for (path,) in paths}) == len(modules)


def test_another_depth_does_not_fit():
    shapes = torchvision(*densenet.LAYOUTS[169])
    found = fit(shapes, network().encoder, names.RULES, names.DROPPED)
    assert found.unmatched and found.misshaped


def french_et_al(skips, before, top, num_classes):
    """Names and shapes of the decoder of the whole network."""
    entries = kernel("line0_conv", before, top, 1) | {"line0_conv.bias": (top,)}
    widths = [skips[0], *skips, top]
    for index, (outputs, inputs) in enumerate(zip(widths, widths[1:])):
        name = f"decoder_blocks.{index}"
        entries |= kernel(f"{name}.conv", inputs, outputs, 3)
        entries |= norm(f"{name}.conv_bn", outputs)
    entries |= kernel("final_dec_conv", skips[0], 64, 3)
    entries |= norm("final_dec_bn", 64)
    entries |= kernel("final_clf", 64, num_classes, 1)
    return entries | {"final_clf.bias": (num_classes,)}


def test_all_of_the_whole_network_fits():
    shapes = {f"base_model.{name}": s for name, s in DENSENET121.items()}
    shapes |= french_et_al((64, 256, 512), 1024, 1024, 5)
    rules, dropped = names.NETWORK_RULES, names.NETWORK_DROPPED
    found = fit(shapes, network(), rules, dropped)
    assert found.problems() == ""
    assert len(found.matched) == len(network().variables)
    assert len(found.dropped) == 2
