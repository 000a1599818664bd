# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import shutil

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from tensorflow import keras

from tfseg.networks import fcn
from tfseg.networks.weights import files
from tfseg.networks.weights.names import base

DATA = pathlib.Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def encoder():
    return fcn.build(num_classes=2, width=4).encoder


@pytest.fixture
def written(encoder, tmp_path):
    """{kind: path} of one encoder's weights, by every writer."""
    paths = {
        "own": tmp_path / "own.h5",
        "keras": tmp_path / "keras.weights.h5",
        "old keras": tmp_path / "old.h5",
        "checkpoint": tmp_path / "ckpt",
    }
    for kind, path in paths.items():
        if kind == "own":
            files.write(path, encoder, base.paths(encoder))
        else:
            encoder.save_weights(str(path))
    return {kind: str(path) for kind, path in paths.items()}


def test_kinds_go_by_content(written, tmp_path):
    shutil.copy(DATA / "weights.safetensors", tmp_path / "weights.pth")
    assert files.kind(tmp_path / "weights.pth") == "safetensors"
    for name in ("checkpoint.pth", "checkpoint_legacy.pth"):
        assert files.kind(DATA / name) == "pytorch"
    for kind in ("own", "keras", "old keras"):
        assert files.kind(written[kind]) == "hdf5"
    assert files.kind(written["checkpoint"]) == "checkpoint"


@pytest.mark.parametrize("name", ["", "none.pth", "folder"])
def test_a_missing_file_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    path = str(tmp_path / name)
    with pytest.raises(ValueError, match="`weights` must name an existing fi"):
        files.kind(path)


def test_reads_safetensors_of_pytorch():
    found = files.read_pytorch(DATA / "weights.safetensors")
    expected = {
        "kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
        "half": np.float16([0.5, -2, 65504]),
        "brain": np.array([1, -3, 2.0**100], ml_dtypes.bfloat16),
        "scalar": np.float32(3.25),
        "count": np.int64(2**40 + 1),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_safetensors_lose_their_module_prefix_as_well(tmp_path):
    tensors = {"module.a": np.zeros(1), "module.b": np.ones(2)}
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors")
    assert set(files.read_pytorch(tmp_path / "x.safetensors")) == {"a", "b"}


def test_truncated_safetensors_are_damaged(tmp_path):
    data = (DATA / "weights.safetensors").read_bytes()
    path = tmp_path / "x.safetensors"
    for length in range(9, len(data), 23):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="x.safetensors is damaged"):
            files.read_pytorch(path)


def test_only_two_kinds_are_of_pytorch(written):
    for kind in ("own", "checkpoint"):
        with pytest.raises(ValueError, match="must be a file of PyTorch or sa"):
            files.read_pytorch(written[kind])


def _read(kind, path, encoder):
    if kind == "own":
        return files.read_own(path, encoder)
    if kind == "checkpoint":
        return files.read_checkpoint(path)
    return files.read_by_keras(path, encoder, base.paths(encoder))


KINDS = ["own", "keras", "old keras", "checkpoint"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read(written, encoder, kind):
    values = {
        name: variable.numpy() for name, variable in base.paths(encoder).items()
    }
    other = fcn.build(num_classes=2, width=4).encoder
    before = other.get_weights()
    found = _read(kind, written[kind], other)
    assert set(found) == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)
    # Reading changes nothing.
    for value, variable in zip(before, other.variables):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_damaged(written, encoder, kind):
    path = written[kind]
    cut = f"{path}.data-00000-of-00001" if kind == "checkpoint" else path
    os.truncate(cut, os.path.getsize(cut) // 2)
    name = os.path.basename(path)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        _read(kind, path, encoder)


@pytest.mark.parametrize("kind", ["keras", "old keras"])
def test_keras_files_that_do_not_fit_change_nothing(written, encoder, kind):
    wider = fcn.build(num_classes=2, width=8).encoder
    before = wider.get_weights()
    name = os.path.basename(written[kind])
    with pytest.raises(ValueError, match=f"{name} does not fit the encoder"):
        _read(kind, written[kind], wider)
    for value, variable in zip(before, wider.variables):
        np.testing.assert_array_equal(variable, value)
    with h5py.File(written[kind], "a") as file:
        file["one_more"] = 1.0
    with pytest.raises(ValueError, match=f"{name} has 31 variables.*has 30"):
        _read(kind, written[kind], encoder)


class Nested(keras.Model):
    """Of a list in a list in a layer Keras writes nothing."""

    architecture, normalization = "nested", "torch"

    def __init__(self):
        super().__init__()
        self.outer = keras.layers.Layer()
        self.outer.lists = [[keras.layers.Dense(2)]]
        self.outer.lists[0][0].build([None, 3])

    def call(self, x):
        return self.outer.lists[0][0](x)


def test_what_keras_leaves_out_is_noticed(tmp_path):
    encoder = Nested()
    encoder(np.zeros([1, 3], np.float32))
    variables = base.paths(encoder)
    assert list(variables) == ["outer/lists/0/0/kernel", "outer/lists/0/0/bias"]
    path = str(tmp_path / "x.weights.h5")
    encoder.save_weights(path)
    with pytest.raises(ValueError, match="has 0 variables, the encoder has 2"):
        files.read_by_keras(path, encoder, variables)
    files.write(path, encoder, variables)
    assert set(files.read_own(path, encoder)) == set(variables)


def test_our_file_knows_for_what_it_is(written, encoder):
    assert files.is_own(written["own"]) and not files.is_own(written["keras"])
    other = fcn.build(num_classes=2, width=4).encoder
    other.normalization = "caffe"
    with pytest.raises(
        ValueError,
        match="is for normalization='torch', but the encoder has "
        "normalization='caffe'",
    ):
        files.read_own(written["own"], other)
    other.normalization, other.architecture = "torch", "resnet50"
    with pytest.raises(ValueError, match="is for architecture=''"):
        files.read_own(written["own"], other)
    with h5py.File(written["own"], "a") as file:
        file.attrs["tfseg_encoder"] = 2
    with pytest.raises(ValueError, match="is for tfseg_encoder=2"):
        files.read_own(written["own"], encoder)
