# SPDX-License-Identifier: Apache-2.0
"""Files in `data` are by PyTorch 2.13; the values are those of their script.

    base = torch.arange(24.0)
    "module.part": base[5:11].reshape(2, 3), "module.every_second": base[4::2],
    "module.transposed": torch.arange(6.0).reshape(2, 3).t(), ...

The others are written here, in the same formats.
"""

import io
import pathlib
import pickle
import tarfile
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tests.networks.weights import torch_files
from tfseg.networks.weights import pytorch

DATA = pathlib.Path(__file__).parent / "data"
WEIGHTS = {"w": np.float32([1, 2])}
OTHER = {"v": np.float32([3])}
# Calls `os.system`, `builtins.eval`, ... with the argument "1".
CALL = b"\x80\x02c%s\n%s\nX\x01\x00\x00\x001\x85R."


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint_legacy"])
def test_reads_what_pytorch_wrote(name):
    found = pytorch.read(DATA / f"{name}.pth")
    expected = {
        "kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
        "transposed": np.float32([[0, 3], [1, 4], [2, 5]]),
        "part": np.float32([[5, 6, 7], [8, 9, 10]]),
        "every_second": np.arange(4, 24, 2, dtype=np.float32),
        "expanded": np.full([3, 2], 7, np.float32),
        "half": np.float16([0.5, -2, 65504]),
        "brain": np.array([1, -3, 2.0**100], ml_dtypes.bfloat16),
        "double": np.array([0.1, 1e300]),
        "count": np.int64(2**40 + 1),
        "small": np.int8([-128, 127]),
        "flags": np.array([True, False, True]),
        "scalar": np.float32(3.25),
        "empty": np.zeros([0, 4], np.float32),
        "parameter": np.float32([1, 2]),
    }
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert found[key].shape == value.shape, key
        np.testing.assert_array_equal(found[key], value, key)
    assert np.shares_memory(found["part"], found["every_second"])
    assert not found["kernel"].flags.writeable


def test_malicious_file_of_pytorch_is_refused_and_not_run(
    tmp_path, monkeypatch
):
    # It would write a file called "executed".
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="wants to run 'posix.system': refused"
    ):
        pytorch.read(DATA / "malicious.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "module, name",
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("__builtin__", "getattr"),
        ("subprocess", "Popen"),
        ("torch.hub", "load_state_dict_from_url"),
        ("torch.nn.modules.conv", "Conv2d"),
        ("torch", "load"),
        ("collections", "OrderedDict.fromkeys"),
    ],
)
def test_whatever_is_no_tensor_is_refused_by_name(tmp_path, module, name):
    program = CALL % (module.encode(), name.encode())
    path = tmp_path / "bad.pth"
    message = f"bad.pth wants to run '{module}.{name}': refused"
    for write in (torch_files.write_zip, torch_files.write_legacy):
        write(path, program)
        with pytest.raises(ValueError, match=message):
            pytorch.read(path)
    # A bare pickle, and one in the place of the list of storages.
    path.write_bytes(program)
    with pytest.raises(ValueError, match=message):
        pytorch.read(path)
    torch_files.write_legacy(path, pickle.dumps({}, 2) + program)
    with pytest.raises(ValueError, match=message):
        pytorch.read(path)


@pytest.mark.parametrize(
    "program",
    [
        # Sets an attribute of what stands for OrderedDict.
        b"\x80\x02ccollections\nOrderedDict\n(N}X\x05\x00\x00\x00_makeNstb.",
        b"\x80\x02ccollections\nOrderedDict\n}X\x05\x00\x00\x00_makeNsb.",
        # Makes an object without calling anything.
        b"\x80\x02ctorch\nFloatStorage\n)\x81.",
        # Calls a type of storage.
        b"\x80\x02ctorch\nFloatStorage\nX\x01\x00\x00\x001\x85R.",
        # A tensor of what is no storage, with what is no size.
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.",
    ],
)
def test_stand_ins_can_be_neither_changed_nor_abused(tmp_path, program):
    path = tmp_path / "bad.pth"
    torch_files.write_zip(path, program)
    with pytest.raises(ValueError, match="bad.pth is damaged"):
        pytorch.read(path)
    test_reads_what_pytorch_wrote("checkpoint")


@pytest.mark.parametrize(
    "program", [b"\x80\x02Nr\xff\xff\xff\xff.", b"\x80\x02Np99999999999\n."]
)
def test_a_memo_of_many_gigabytes_is_not_made(tmp_path, program):
    torch_files.write_zip(tmp_path / "x.pth", program)
    with pytest.raises(ValueError, match="x.pth is damaged: a memo index"):
        pytorch.read(tmp_path / "x.pth")


def test_attributes_that_hang_on_a_dictionary_are_not_looked_at(tmp_path):
    program, storages = torch_files.pickled(WEIGHTS)
    # An OrderedDict, with what is in the pickled dict, and a `get` of None.
    made = b"ccollections\nOrderedDict\n)R"
    assert program.startswith(b"\x80\x02}") and program.endswith(b"s.")
    program = program.replace(b"}", made, 1)
    program = program[:-1] + b"}X\x03\x00\x00\x00getNsb."
    torch_files.write_zip(tmp_path / "x.pth", program, storages)
    assert list(pytorch.read(tmp_path / "x.pth")) == ["w"]


@pytest.mark.parametrize("order, word", [("<", b"little"), (">", b"big")])
def test_byte_order_is_that_of_the_record(tmp_path, order, word):
    path = tmp_path / "x.pth"
    weights = {"w": np.float32([1.5, -2.0]), "n": np.array([3, 2**40])}
    torch_files.write_zip(
        path, *torch_files.pickled(weights), order, byteorder=word
    )
    for name, value in pytorch.read(path).items():
        np.testing.assert_array_equal(value, weights[name])
        assert value.dtype.isnative and not value.flags.writeable


@pytest.mark.parametrize(
    "content, names",
    [
        ({"epoch": 3, "model": WEIGHTS, "optimizer": OTHER}, ["w"]),
        ({"state_dict": WEIGHTS, "model": OTHER}, ["w"]),
        ({"network": {"state_dict": WEIGHTS, "step": 1}, "v": OTHER}, ["w"]),
        ({"model": {"depth": 50}, "weights": WEIGHTS}, ["w"]),
        ({**WEIGHTS, "other": OTHER, "epoch": 1, 5: np.zeros(1)}, ["w"]),
        ({"module.a": np.zeros(1), "module.b": np.ones(2)}, ["a", "b"]),
        ({"module.a": np.zeros(1), "b": np.ones(2)}, ["module.a", "b"]),
    ],
)
def test_finds_the_weights_in_a_checkpoint(tmp_path, content, names):
    torch_files.save(tmp_path / "x.pth", content)
    assert list(pytorch.read(tmp_path / "x.pth")) == names


@pytest.mark.parametrize(
    "content, message",
    [
        ({"student": WEIGHTS, "teacher": OTHER}, "several.*student, teacher"),
        ({"epoch": 3}, "holds no dictionary of tensors"),
        (np.zeros(3), "holds no dictionary of tensors"),
        ([WEIGHTS], "holds no dictionary of tensors"),
    ],
)
def test_a_file_without_weights_is_named(tmp_path, content, message):
    torch_files.save(tmp_path / "x.pth", content)
    with pytest.raises(ValueError, match=f"x.pth.*{message}"):
        pytorch.read(tmp_path / "x.pth")


def test_an_optimizer_is_not_read(tmp_path):
    """Its storages may even be missing."""
    content = {"model": WEIGHTS, "optimizer": {"state": {0: np.zeros(9)}}}
    program, storages = torch_files.pickled(content)
    assert [len(storage) for storage in storages] == [2, 9]
    torch_files.write_zip(tmp_path / "x.pth", program, storages[:1])
    np.testing.assert_array_equal(pytorch.read(tmp_path / "x.pth")["w"], [1, 2])


@pytest.mark.parametrize(
    "offset, shape, stride, message",
    [
        (5, (2,), (1,), "tensor 'w' reaches to element 6 of a storage of 6"),
        (0, (2, 3), (4, 1), "tensor 'w' reaches to element 6"),
        (0, (2**62, 2**62), (1, 1), "tensor 'w' reaches"),
        (0, (2,), (1, 1), r"tensor 'w' has shape \(2,\), but"),
        (0, (2,), (-1,), "is not a whole number"),
        (-1, (2,), (1,), "is not a whole number"),
        (0, (2.0,), (1,), "is not a whole number"),
    ],
)
def test_a_tensor_beyond_its_storage_is_named(
    tmp_path, offset, shape, stride, message
):
    storage = np.arange(6, dtype=np.float32)
    tensor = torch_files.Tensor(storage, offset, shape, stride)
    torch_files.save(tmp_path / "x.pth", {"w": tensor})
    with pytest.raises(ValueError, match=f"x.pth is damaged: .*{message}"):
        pytorch.read(tmp_path / "x.pth")


def test_a_view_of_a_storage_as_in_2018(tmp_path):
    """The persistent id ends with (key, start, size) of the view."""
    program, storages = torch_files.pickled({"w": np.arange(6.0)})
    # ..., "cpu", 6) becomes ..., "cpu", 6, ("1", 2, 3)), and the tensor short.
    view = b"K\x06(X\x01\x00\x00\x001K\x02K\x03tt"
    for old, new in [(b"K\x06t", view), (b"K\x06\x85", b"K\x03\x85")]:
        assert program.count(old) == 1
        program = program.replace(old, new)
    torch_files.write_legacy(tmp_path / "x.pth", program, storages)
    found = pytorch.read(tmp_path / "x.pth")["w"]
    np.testing.assert_array_equal(found, [2, 3, 4])


def _tar(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())


def _zip(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)


PROGRAM = pickle.dumps({}, 2)


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_text("\n<!DOCTYPE html><title>"), "a web page"),
        (lambda p: p.write_text("version https://git-lfs.github"), "Git LFS"),
        (lambda p: p.write_text("weights"), "is not a file of torch.save"),
        (_tar, "tar archive of PyTorch 0.1"),
        (lambda p: p.write_bytes(PROGRAM), "is a pickle, but not of torch"),
        (lambda p: _zip(p, readme="x"), "it has no data.pkl"),
        (lambda p: _zip(p, a__data=b"", b__data=b""), "it has no data.pkl"),
        (
            lambda p: _zip(p, x__data=b"", x__constants=b"", x__code__a=b""),
            "TorchScript",
        ),
        (
            lambda p: _zip(
                p, zipfile.ZIP_DEFLATED, **{"x__data.pkl": bytes(99)}
            ),
            "is a compressed zip archive",
        ),
    ],
)
def test_another_file_is_said_to_be_one(tmp_path, write, message):
    path = tmp_path / "x.pth"
    write(path)
    with pytest.raises(ValueError, match=f"x.pth .*{message}"):
        pytorch.read(path)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint_legacy"])
def test_a_truncated_file_is_damaged(tmp_path, name):
    data = (DATA / f"{name}.pth").read_bytes()
    path = tmp_path / "x.pth"
    for length in range(1, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="x.pth is (damaged|trunc|not)"):
            pytorch.read(path)


def test_a_storage_that_is_too_short_is_named(tmp_path):
    program, _ = torch_files.pickled({"w": np.zeros(3, np.float32)})
    short = [np.zeros(2, np.float32)]
    for write in (torch_files.write_zip, torch_files.write_legacy):
        write(tmp_path / "x.pth", program, short)
        with pytest.raises(ValueError, match="storage '0' has 8 bytes inst"):
            pytorch.read(tmp_path / "x.pth")


def test_a_changed_byte_of_a_storage_is_noticed(tmp_path):
    data = bytearray((DATA / "checkpoint.pth").read_bytes())
    data[data.index(np.float32([4, 5, 6]).tobytes())] ^= 1
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(ValueError, match="x.pth is damaged.*CRC"):
        pytorch.read(tmp_path / "x.pth")
