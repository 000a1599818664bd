# SPDX-License-Identifier: Apache-2.0
"""Writes files as `torch.save` does, in both formats, without PyTorch.

Classes stand in for PyTorch's functions; they take their place among the
modules while the pickler looks for them.
"""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

import numpy as np

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


def _class(module, name):
    """A class that is pickled as `module.name`."""
    return type(name, (), {"__module__": module, "__qualname__": name})


_REBUILD = _class("torch._utils", "_rebuild_tensor_v2")
_STORAGES = {
    "float64": _class("torch", "DoubleStorage"),
    "float32": _class("torch", "FloatStorage"),
    "int64": _class("torch", "LongStorage"),
}


class Tensor:
    """A strided view of a one-dimensional array, which may serve several."""

    def __init__(self, array, offset, shape, stride):
        self.array, self.view = array, (offset, shape, stride)


class _Storage:
    def __init__(self, array):
        self.array = array


class _Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = []

    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        array = value.array
        if not any(array is other for other in self.storages):
            self.storages.append(array)
        key = next(i for i, a in enumerate(self.storages) if a is array)
        kind = _STORAGES[array.dtype.name]
        return ("storage", kind, str(key), "cpu", array.size)

    def reducer_override(self, value):
        if isinstance(value, np.ndarray):
            flat = value.reshape(-1)
            sizes = [*value.shape[1:], 1]
            stride = tuple(int(n) for n in np.cumprod(sizes[::-1])[::-1])
            value = Tensor(flat, 0, value.shape, stride[: value.ndim])
        if isinstance(value, Tensor):
            hooks = collections.OrderedDict()
            return _REBUILD, (_Storage(value.array), *value.view, False, hooks)
        return NotImplemented


def pickled(content):
    """bytes of the pickle, and the arrays of its storages."""
    modules = {
        name: types.ModuleType(name) for name in ("torch", "torch._utils")
    }
    for item in (_REBUILD, *_STORAGES.values()):
        setattr(modules[item.__module__], item.__name__, item)
    file = io.BytesIO()
    pickler = _Pickler(file)
    with mock.patch.dict(sys.modules, modules):
        pickler.dump(content)
    return file.getvalue(), pickler.storages


def write_zip(path, program, storages=(), order="<", **members):
    """The format since PyTorch 1.6.

    Args:
      path: of the file.
      program: bytes of the pickle.
      storages: arrays.
      order: "<" or ">", of their bytes.
      **members: {name: bytes} of further members.
    """
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for key, array in enumerate(storages):
            data = array.astype(array.dtype.newbyteorder(order)).tobytes()
            archive.writestr(f"archive/data/{key}", data)
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)


def write_legacy(path, program, storages=()):
    """The format before PyTorch 1.6; see `write_zip`."""
    system = {"protocol_version": 1001, "little_endian": True}
    keys = [str(key) for key in range(len(storages))]
    with open(path, "wb") as file:
        for value in (MAGIC_NUMBER, 1001, system):
            pickle.dump(value, file, protocol=2)
        file.write(program)
        pickle.dump(keys, file, protocol=2)
        for array in storages:
            file.write(struct.pack("<q", array.size) + array.tobytes())


def save(path, content):
    """Like `torch.save(content, path)`; arrays and Tensors become tensors."""
    write_zip(path, *pickled(content))
