# SPDX-License-Identifier: Apache-2.0
import functools
import json

import numpy as np
import pytest

from tests import golden
from tests.networks import recipe, state_dicts
from tfseg.networks.encoders import resnet
from tfseg.networks.weights.names import base
from tfseg.networks.weights.names import resnet as names

FC = {"fc.weight": [1000, 2048], "fc.bias": [1000]}


@functools.lru_cache(maxsize=None)
def encoder(stem):
    return resnet.build(stem=stem)


def _deep(stem):
    layers = [f"layer{n}" for n in (1, 2, 3, 4)]
    return {**stem, **state_dicts.stages(layers, 128)}


def _cps_stem():
    return {
        **state_dicts.conv_norm("conv1.0", "conv1.1", 64, 3, 3),
        **state_dicts.conv_norm("conv1.3", "conv1.4", 64, 64, 3),
        **state_dicts.conv_norm("conv1.6", "bn1", 128, 64, 3),
    }


@pytest.mark.parametrize(
    "stem, entries",
    [
        ("plain", state_dicts.plain_resnet("")),
        ("deep", _deep(_cps_stem())),
        ("deep", _deep(state_dicts.deep_stem(""))),
        ("deep", _deep(state_dicts.deep_stem("prefix."))),
    ],
    ids=["torchvision", "cps", "cct", "cct with its prefix"],
)
def test_every_name_has_its_variable(stem, entries):
    found = state_dicts.assert_covered(
        encoder(stem), names, {**entries, **FC}, unwanted=FC
    )
    state_dicts.assert_in_order(encoder(stem), found)
    assert (
        found["layer3.5.conv2.weight"]
        == "stages/2/5/spatial/convolution/kernel"
    )
    assert (
        found["layer4.0.downsample.1.running_var"]
        == "stages/3/0/shortcut/batch_norm/moving_variance"
    )


@pytest.mark.parametrize("depth, blocks", [(101, 23), (152, 36)])
def test_rules_reach_the_last_block_of_deeper_ones(depth, blocks):
    targets = base.by_rules(names.RULES)
    assert resnet.BLOCKS[depth][2] == blocks
    assert targets(f"layer3.{blocks - 1}.conv3") == [
        f"stages/2/{blocks - 1}/expand/convolution"
    ]


def test_by_name_is_what_the_recipe_assigns_by_order():
    vectors = golden.load("net_cps")
    model = encoder("deep")
    recipe.assign(model, vectors)
    expected = [variable.numpy() for variable in model.variables]
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))

    found = base.fit(
        _backbone(vectors),
        base.paths(model),
        base.by_rules(names.RULES),
        names.DROPPED,
    )
    assert not found.problems()
    found.assign()
    for variable, value in zip(model.variables, expected):
        np.testing.assert_array_equal(variable, value, variable.name)


def _backbone(vectors):
    """{name: array} as in the file of the ResNet of CPS."""
    tensors = {}
    for table, values in (
        ("param_table", recipe.parameter),
        ("buffer_table", recipe.statistic),
    ):
        entries = json.loads(str(vectors[table]))
        for index, (name, shape) in enumerate(entries):
            if name.startswith("backbone."):
                value = values(index, name, shape).astype(np.float32)
                # The recipe has kernels as Keras.
                if value.ndim == 4:
                    value = value.transpose(3, 2, 0, 1)
                tensors[name[len("backbone.") :]] = value
    return tensors
