# SPDX-License-Identifier: Apache-2.0
import importlib
import pathlib

import pytest

from configs import (
    consistency,
    context_aware,
    cross_consistency,
    cross_supervision,
    networks,
    weak_labels,
)
from tfseg import config as config_lib
from tfseg import lookup
from tfseg.networks.layers import batch_norm

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "configs"
# What experiments choose from.
PRESETS = (
    consistency,
    context_aware,
    cross_consistency,
    cross_supervision,
    weak_labels,
)
# Of digits, but not to be compared: they give labels, or learn another task.
OTHER_TASKS = ("digits_cam", "digits_cct_domains")
NAMES = sorted(
    {p.stem for p in FOLDER.glob("[a-z]*.py")}
    - {m.__name__.rpartition(".")[2] for m in (networks, *PRESETS)}
)


@pytest.mark.parametrize("name", NAMES)
def test_config_is_valid_and_names_real_options(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    config_lib.validate(config)
    for kind, extra in [
        ("method", {"seed"}),
        ("network", {"num_classes"}),
        ("dataset", set()),
    ]:
        options = set(config[kind]) - {"name"} | extra
        leaf = lookup.module(f"{kind}s", config[kind].name)
        lookup.check_arguments(leaf.build, options, f"config.{kind}")
    assert (FOLDER / f"{name}.py").read_text().count("launch.train") == 1


@pytest.mark.parametrize("name", list(networks.NETWORKS))
def test_a_network_names_every_option(name):
    """So that each can be set on the command line."""
    options = networks.get(name)
    leaf = lookup.module("networks", options.pop("name"))
    assert set(options) | {"num_classes"} == set(lookup.options(leaf.build))
    norm = set(lookup.options(batch_norm.factory))
    assert set(options.get("batch_norm", norm)) == norm


@pytest.mark.parametrize(
    "presets, name",
    [(presets, name) for presets in PRESETS for name in presets.METHODS],
)
def test_a_method_names_every_option(presets, name):
    options = presets.get(name)
    leaf = lookup.module("methods", options.pop("name"))
    assert set(options) | {"seed"} == set(lookup.options(leaf.build))


def test_every_network_has_a_configuration_and_a_wrong_name_the_choices():
    used = {options["name"] for options in networks.NETWORKS.values()}
    assert used == set(lookup.names("networks"))
    with pytest.raises(ValueError, match="Did you mean 'fcn'.*Available: fcn"):
        networks.get("fnc")


@pytest.mark.parametrize(
    "name",
    [n for n in NAMES if n.startswith("digits_") and n not in OTHER_TASKS],
)
def test_compared_configs_differ_in_the_method_alone(name):
    argument = "labels=40,steps=7,seed=3"
    lines = config_lib.difference(
        importlib.import_module("configs.digits_supervised").get_config(
            argument
        ),
        importlib.import_module(f"configs.{name}").get_config(argument),
    )
    assert bool(lines) == (name != "digits_supervised")
    assert all(line.startswith("config.method.") for line in lines)


def test_one_option_is_taken_out_of_an_argument():
    take = config_lib.take
    assert take("a=1,row=x,b=2", "row") == ("x", "a=1,b=2")
    assert take("", "row", "none") == ("none", "")
    assert take("rows=1", "row", "none") == ("none", "rows=1")


@pytest.mark.parametrize(
    "name, option, choices",
    [
        ("digits_cac", "ablation", context_aware.ABLATIONS),
        ("digits_cct", "variant", cross_consistency.VARIANTS),
    ],
)
def test_every_row_of_a_table_is_another_config(name, option, choices):
    get = importlib.import_module(f"configs.{name}").get_config
    rows = [config_lib.flatten(get(f"{option}={row}")) for row in choices]
    for place, row in enumerate(rows):
        assert row not in rows[:place]
        assert row.keys() == rows[0].keys()
    assert rows[0] == config_lib.flatten(get())
    with pytest.raises(ValueError, match="Available: none, "):
        get(f"{option}=l3")


def test_argument_is_typed():
    parse = config_lib.parse_arg
    options = parse("labels=40,fast=true,dir=a=b", labels=1, fast=False, dir="")
    assert (options.labels, options.fast, options.dir) == (40, True, "a=b")
    with pytest.raises(ValueError, match="'label'.*Available: labels"):
        parse("label=3", labels=1)
    with pytest.raises(ValueError, match="`labels` must be of type int"):
        parse("labels=many", labels=1)
    with pytest.raises(ValueError, match="`fast` must be true or false"):
        parse("fast=1", fast=False)


@pytest.mark.parametrize(
    "field, value, rule",
    [
        ("train.steps", 0, "must be positive"),
        ("data.flip_rate", 1.5, r"must be in \[0, 1\]"),
        ("data.scale", (2.0, 0.5), "must be two increasing numbers"),
        ("data.crop", (0, 4), "must be 2 whole numbers"),
        ("data.crop", (32.5, 32), "must be 2 whole numbers"),
        ("data.scale", ("1", "2"), "must be two increasing numbers"),
        ("data.jitter", (0.4, 0.4), "must be 4 numbers"),
        ("data.jitter", (-3, 0, 0, 0), "must be 4 numbers"),
        ("data.pad_color", (1, 2), "must be 3 numbers"),
        ("seed", -1, "must be in"),
        ("optimizer.learning_rate", float("inf"), "must be positive"),
        ("runtime.precision", "float16", "must be one of"),
        ("evaluate.absent", "skip", "must be one of"),
    ],
)
def test_bad_value_is_named(field, value, rule):
    config = config_lib.base_config()
    *section, name = field.split(".")
    (config[section[0]] if section else config)[name] = value
    with pytest.raises(ValueError, match=f"`config.{field}` {rule}"):
        config_lib.validate(config)


def test_missing_field_is_named():
    config = config_lib.base_config()
    del config.train["steps"]
    with pytest.raises(ValueError, match="`config.train.steps` is missing"):
        config_lib.validate(config)


def test_difference_names_old_and_new_values():
    old, new = config_lib.base_config(), config_lib.base_config()
    new.train.steps = 7
    new.method.decay = 0.9
    assert config_lib.difference(old.to_dict(), new) == [
        "config.method.decay: absent -> 0.9",
        "config.train.steps: 3000 -> 7",
    ]
