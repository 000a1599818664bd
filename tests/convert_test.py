# SPDX-License-Identifier: Apache-2.0
"""A family of names for the small network stands in for the official ones."""

import functools
import json
import os
import sys

import ml_collections
import numpy as np
import pytest

from configs import cross_supervision
from tests import miniature
from tests.networks.weights import torch_files
from tfseg import convert, evaluate, runs, train
from tfseg.networks.weights import files, names, pretrained
from tfseg.networks.weights.names import base

_FAMILY = r"""
_LAYERS = [
    (r"down\.(\d)\.(\d)\.(\w+)", r"encoder/stages/\1/\2/\3"),
    (r"down\.(\d)\.(\d)\.branch\.(\w+)", r"encoder/stages/\1/\2/branch/\3"),
    (r"up\.(\w+)\.(\w+)", r"decoder/\1/\2"),
    (r"head", "decoder/classifier"),
]

def branch(name):
    return [(rf"{name}\.{pattern}", path) for pattern, path in _LAYERS]

RULES = branch("branch1")
DROPPED = [r"branch2\..*"]
"""
_LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


@pytest.fixture(autouse=True)
def _family(tmp_path, monkeypatch):
    """A new family is a new file, and nothing else."""
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "small.py").write_text(_FAMILY)
    path = [*names.__path__, str(tmp_path / "names")]
    monkeypatch.setattr(names, "__path__", path)
    yield
    sys.modules.pop("tfseg.networks.weights.names.small", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return miniature.make_folder(tmp_path_factory.mktemp("data") / "mine")


@functools.lru_cache(maxsize=None)
def _shapes(network):
    """{path: shape} of a network, given as JSON."""
    config = ml_collections.ConfigDict({"network": json.loads(network)})
    variables = base.paths(runs.build_network(config, num_classes=3))
    return {path: variable.shape for path, variable in variables.items()}


def _values(config, seed=0):
    """{path: random value} of the network of a config."""
    draw = np.random.RandomState(seed)
    return {
        path: draw.uniform(0.5, 1, shape).astype(np.float32)
        for path, shape in _shapes(config.network.to_json()).items()
    }


def _name(path):
    path, _, leaf = path.rpartition("/")
    path = path.replace("encoder/stages", "down").replace(
        "decoder/classifier", "head"
    )
    path = path.replace("decoder", "up").replace("/", ".")
    return f"{path}.{_LEAVES[leaf]}"


def _write(path, branch1, branch2):
    """A checkpoint as that of CPS, with an optimizer."""
    tensors = {}
    for number, values in ((1, branch1), (2, branch2)):
        for name, value in values.items():
            if value.ndim == 4:
                value = value.transpose(3, 2, 0, 1).copy()
            tensors[f"branch{number}.{_name(name)}"] = value
    torch_files.save(path, {"model": tensors, "optimizer_l": {0: np.ones(9)}})
    return str(path)


def _assert_has(network, values):
    for path, variable in base.paths(network).items():
        np.testing.assert_array_equal(variable, values[path], path)


@pytest.fixture
def config(folder):
    """Of the mean teacher: two networks."""
    return miniature.config(folder)


@pytest.fixture
def single(folder):
    """Of one network, which takes less time."""
    return miniature.config(folder, "supervised")


def test_a_network_becomes_a_run_that_can_be_evaluated(config, tmp_path):
    first, second = _values(config, 1), _values(config, 2)
    source = _write(tmp_path / "epoch-last.pth", first, second)
    workdir = str(tmp_path / "run")
    fit = convert.convert(config, source, workdir, part="network")
    assert len(fit.matched) == len(first) and len(fit.dropped) == len(second)
    assert sorted(os.listdir(workdir)) == [
        "checkpoints",
        "config.json",
        "dataset.json",
        "split.json",
    ]
    assert sorted(os.listdir(tmp_path)) == ["epoch-last.pth", "names", "run"]
    for checkpoint in ("best", "last"):
        run = runs.load(workdir, checkpoint)
        assert run.step == 0
        _assert_has(run.network, first)
    result = evaluate.evaluate_run(workdir)
    assert result["num_images"] == 2


def test_a_method_that_trains_two_networks_takes_both(folder, tmp_path):
    config = miniature.config(folder, "supervised")
    config.method = cross_supervision.get("cps")
    first, second = _values(config, 1), _values(config, 2)
    source = _write(tmp_path / "epoch-last.pth", first, second)
    workdir = str(tmp_path / "run")
    convert.convert(config, source, workdir, part="network")
    _assert_has(runs.load(workdir, network="network1").network, first)
    _assert_has(runs.load(workdir, network="network2").network, second)


def test_training_with_the_same_config_starts_from_it(folder, tmp_path):
    """On two replicas; nothing moves at a rate of almost 0."""
    config = miniature.config(
        folder,
        "supervised",
        train__steps=1,
        split__validation_fraction=0.0,
        optimizer__learning_rate=1e-30,
        runtime__replicas=2,
    )
    first, second = _values(config, 1), _values(config, 2)
    source = _write(tmp_path / "x.pth", first, second)
    workdir = str(tmp_path / "run")
    convert.convert(config, source, workdir, part="network", branch="branch2")
    assert train.train(config, workdir)["steps"] == 1
    network = runs.load(workdir, "last").network
    for path, variable in base.paths(network).items():
        if "moving" not in path:
            np.testing.assert_array_equal(variable, second[path], path)


def test_what_does_not_fit_is_an_error_unless_partial(single, tmp_path):
    values = _values(single)
    values["decoder/classifier/kernel"] = np.ones([1, 1, 8, 21], np.float32)
    values["decoder/classifier/bias"] = np.ones([21], np.float32)
    source = _write(tmp_path / "x.pth", values, {})
    workdir = str(tmp_path / "run")
    with pytest.raises(ValueError, match="2 of another shape: branch1.head.we"):
        convert.convert(single, source, workdir, part="network")
    assert not os.path.exists(workdir)
    fit = convert.convert(single, source, workdir, part="network", partial=True)
    assert len(fit.misshaped) == 2
    network = runs.load(workdir).network
    del values["decoder/classifier/kernel"], values["decoder/classifier/bias"]
    variables = base.paths(network)
    for path, value in values.items():
        np.testing.assert_array_equal(variables[path], value)
    assert variables["decoder/classifier/kernel"].shape[-1] == 3


def test_an_encoder_becomes_a_file_of_weights(config, tmp_path):
    first, second = _values(config, 1), _values(config, 2)
    source = _write(tmp_path / "x.pth", first, second)
    out = str(tmp_path / "new" / "encoder.weights.h5")
    convert.convert(config, source, out)
    network = runs.build_network(config, num_classes=3)
    pretrained.load(network.encoder, out)
    for path, variable in base.paths(network.encoder).items():
        np.testing.assert_array_equal(variable, first[f"encoder/{path}"])
    # And so does our own file, or the other branch over it.
    again = str(tmp_path / "again.weights.h5")
    convert.convert(config, out, again)
    found = files.read_own(again, network.encoder)
    for path, value in found.items():
        np.testing.assert_array_equal(value, first[f"encoder/{path}"])
    convert.convert(config, source, again, branch="branch2", overwrite=True)
    found = files.read_own(again, network.encoder)
    for path, value in found.items():
        np.testing.assert_array_equal(value, second[f"encoder/{path}"])


@pytest.mark.parametrize("part", convert.PARTS)
def test_nothing_is_overwritten_unasked(single, tmp_path, part):
    source = _write(tmp_path / "x.pth", _values(single), {})
    out = old = tmp_path / "out"
    if part == "network":
        out.mkdir()
        old = out / "config.json"
    old.write_bytes(b"\x89HDF\r\n\x1a\n")
    content = old.read_bytes()
    with pytest.raises(ValueError, match="out exists already.*--overwrite"):
        convert.convert(single, source, str(out), part=part)
    assert old.read_bytes() == content
    # A failure leaves the old one.
    with pytest.raises(ValueError, match="must name an existing file"):
        convert.convert(single, "no.pth", str(out), part=part, overwrite=True)
    assert old.read_bytes() == content
    convert.convert(single, source, f"{out}/", part=part, overwrite=True)
    assert old.read_bytes() != content
    assert sorted(os.listdir(tmp_path)) == ["names", "out", "x.pth"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("part", convert.PARTS)
def test_only_its_own_kind_is_replaced(config, tmp_path, part, overwrite):
    """Neither other folders and files nor the source."""
    source = _write(tmp_path / "x.pth", _values(config), {})
    content = open(source, "rb").read()
    for out in (str(tmp_path / "names"), source):
        with pytest.raises(ValueError, match=f"{out} exists.*is no") as error:
            convert.convert(config, source, out, part=part, overwrite=overwrite)
        assert "--overwrite" not in str(error.value)
    assert (tmp_path / "names" / "small.py").exists()
    assert open(source, "rb").read() == content


def test_what_fits_nowhere_is_an_error_even_if_partial(config, tmp_path):
    torch_files.save(
        tmp_path / "x.pth", {"conv1.weight": np.ones([4, 3, 1, 1])}
    )
    for part in convert.PARTS:
        with pytest.raises(ValueError, match="x.pth does not fit"):
            convert.convert(
                config,
                str(tmp_path / "x.pth"),
                str(tmp_path / "out"),
                part=part,
                partial=True,
            )


def test_the_config_keeps_its_weights(single, tmp_path, monkeypatch):
    """They are not looked for: the file in hand takes their place."""
    source = _write(tmp_path / "x.pth", _values(single), {})
    seen = []
    build = runs.build_network

    def without_weights(config, num_classes, place=0):
        options = config.network.to_dict()
        seen.append(options.pop("weights"))
        config = type(config)({**config.to_dict(), "network": options})
        return build(config, num_classes, place)

    monkeypatch.setattr(runs, "build_network", without_weights)
    single.network.weights = "imagenet"
    workdir = str(tmp_path / "run")
    convert.convert(single, source, workdir, part="network")
    assert set(seen) == {""}
    written = runs.read_json(f"{workdir}/config.json")
    assert written["network"]["weights"] == "imagenet"
    assert single.network.weights == "imagenet"


def test_a_wrong_option_of_the_method_is_named(config, tmp_path):
    source = _write(tmp_path / "x.pth", _values(config), {})
    config.method.treshold = 1
    with pytest.raises(ValueError, match="`config.method.treshold`"):
        convert.convert(config, source, str(tmp_path / "x"), part="network")
