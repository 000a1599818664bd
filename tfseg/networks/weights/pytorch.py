# SPDX-License-Identifier: Apache-2.0
"""Reads the tensors of a PyTorch file, without PyTorch.

`torch.save` has written two formats. Since PyTorch 1.6: a zip archive with the
pickled object in data.pkl and each storage in a member of its own. Before: a
pickled magic number, version and system, the pickled object, the pickled list
of storages, and then these one after the other.

Of a checkpoint these are the weights, the first that is there:
  1. the dictionary under one of the names in WRAPPERS, or its own weights;
  2. the tensors that stand in the outermost dictionary;
  3. the only dictionary in it that holds tensors.
Only their storages are read; those of an optimizer stay on disk.
"""

import os
import struct
import zipfile

import numpy as np

from tfseg.networks.weights import unpickler

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
)
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_AGAIN = "Download or copy it again."
_SAVE = "Load it with PyTorch and save `model.state_dict()`."


def read(path):
    """The weights in a file of `torch.save`.

    Args:
      path: of the file, either format.

    Returns:
      dict, name -> numpy array, not writable; a prefix "module." that all
      names have is left out.

    Raises:
      ValueError: not such a file, damaged, without weights, or one that wants
        to run something.
      OSError: cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            archive = _open(file)
            tensors = _find_weights(archive.content)
            arrays = {
                name: _array(name, tensor, archive)
                for name, tensor in tensors.items()
            }
        except unpickler.Refused as error:
            raise ValueError(f"{path} {error}") from None
        except Exception as error:
            # Malformed bytes fail in any way that pickle and zipfile know.
            raise ValueError(
                f"{path} is damaged, or no file of torch.save "
                f"({type(error).__name__}: {error}). {_AGAIN}"
            ) from error
    return without_module(arrays)


def without_module(tensors):
    """The same, without a "module." (DataParallel) before every name."""
    if not all(name.startswith("module.") for name in tensors):
        return tensors
    return {name[len("module.") :]: t for name, t in tensors.items()}


def _open(file):
    head = file.read(512)
    file.seek(0)
    if not head:
        raise unpickler.Refused(f"is empty. {_AGAIN}")
    if head.startswith(b"PK\x03\x04"):
        return _ZipArchive(file)
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise unpickler.Refused(
            "is a web page, not weights: it was saved instead of the file "
            f"behind it. {_AGAIN}"
        )
    if head.startswith(b"version https://git-lfs"):
        raise unpickler.Refused(
            "is a pointer of Git LFS, not weights. Fetch the file itself "
            "with `git lfs pull`."
        )
    if head[257:262] == b"ustar":
        raise unpickler.Refused(f"is a tar archive of PyTorch 0.1. {_SAVE}")
    if not head.startswith(b"\x80"):
        raise unpickler.Refused(f"is not a file of torch.save. {_AGAIN}")
    return _LegacyArchive(file)


class _ZipArchive:
    """Since PyTorch 1.6.

    Attributes:
      content: the object that was saved.
    """

    def __init__(self, file):
        self._zip = zipfile.ZipFile(file)
        names = self._zip.namelist()
        self._root = os.path.commonprefix(names).partition("/")[0]
        code = (f"{self._root}/constants.pkl", f"{self._root}/code/")
        if any(name.startswith(code) for name in names):
            raise unpickler.Refused(f"is a TorchScript archive. {_SAVE}")
        if f"{self._root}/data.pkl" not in names:
            raise unpickler.Refused(
                "is a zip archive, but not of torch.save: it has no data.pkl. "
                "Unpack it, and use the file of weights inside."
            )
        order = "little"
        if f"{self._root}/byteorder" in names:
            order = self._read("byteorder").decode()
        self._order = {"little": "<", "big": ">"}[order]
        self._data = {}
        self.content = unpickler.load(self._read("data.pkl"))

    def numbers(self, storage):
        """Array of all elements of a storage."""
        if storage.key not in self._data:
            self._data[storage.key] = self._read(f"data/{storage.key}")
        return _decode(self._data[storage.key], storage, self._order)

    def _read(self, name):
        info = self._zip.getinfo(f"{self._root}/{name}")
        # torch.save does not compress, so nothing unpacks to more than it is.
        if info.compress_type != zipfile.ZIP_STORED:
            raise unpickler.Refused(
                "is a compressed zip archive; torch.save does not compress. "
                "Unpack it, and use the file of weights inside."
            )
        return self._zip.read(info)


class _LegacyArchive:
    """Before PyTorch 1.6. See `_ZipArchive`."""

    def __init__(self, file):
        if unpickler.load(unpickler.split(file)) != _MAGIC_NUMBER:
            raise unpickler.Refused(
                f"is a pickle, but not of torch.save. {_SAVE}"
            )
        if unpickler.load(unpickler.split(file)) != _VERSION:
            raise unpickler.Refused(f"has an unknown version. {_SAVE}")
        unpickler.split(file)  # The machine that wrote it.
        dtypes = {}
        self.content = unpickler.load(unpickler.split(file), dtypes)
        self._file, self._places, self._data = file, {}, {}
        for key in unpickler.load(unpickler.split(file)):
            (count,) = struct.unpack("<Q", file.read(8))
            length = count * dtypes[key].itemsize
            self._places[key] = (file.tell(), length)
            file.seek(length, os.SEEK_CUR)

    def numbers(self, storage):
        """Array of all elements of a storage."""
        if storage.key not in self._data:
            start, length = self._places[storage.key]
            self._file.seek(start)
            self._data[storage.key] = self._file.read(length)
        return _decode(self._data[storage.key], storage, "<")


def _decode(data, storage, order):
    """Bytes to the elements of a storage, in the order of this machine."""
    size = storage.dtype.itemsize
    start, stop = storage.start * size, (storage.start + storage.size) * size
    if len(data) < stop:
        raise unpickler.Refused(
            f"is truncated: storage {storage.key!r} has {len(data)} bytes "
            f"instead of {stop}. {_AGAIN}"
        )
    numbers = np.frombuffer(data[start:stop], f"{order}u{size}")
    return numbers.astype(f"=u{size}", copy=False).view(storage.dtype)


def _find_weights(content):
    """{name: Tensor}, see the module.

    Raises:
      Refused: there are none, or several dictionaries of them.
    """
    found = _search(content)
    if not found:
        raise unpickler.Refused(f"holds no dictionary of tensors. {_SAVE}")
    return found


def _search(content):
    if not isinstance(content, dict):
        return {}
    for name in WRAPPERS:
        found = _search(content.get(name))
        if found:
            return found
    own = _tensors(content)
    inner = {k: v for k, v in content.items() if _tensors(v)}
    if own or not inner:
        return own
    if len(inner) > 1:
        raise unpickler.Refused(
            "holds several dictionaries of tensors: "
            f"{', '.join(map(str, inner))}. Load it with PyTorch and save "
            "the one that you want."
        )
    return _tensors(*inner.values())


def _tensors(content):
    if not isinstance(content, dict):
        return {}
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, unpickler.Tensor)
    }


def _array(name, tensor, archive):
    numbers = archive.numbers(tensor.storage)
    if len(tensor.shape) != len(tensor.stride):
        raise unpickler.Refused(
            f"is damaged: tensor {name!r} has shape {tensor.shape}, but "
            f"strides {tensor.stride}."
        )
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, numbers.dtype)
    steps = zip(tensor.shape, tensor.stride)
    last = tensor.offset + sum((count - 1) * step for count, step in steps)
    if last >= len(numbers):
        raise unpickler.Refused(
            f"is damaged: tensor {name!r} reaches to element {last} of a "
            f"storage of {len(numbers)}."
        )
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :],
        tensor.shape,
        [step * numbers.itemsize for step in tensor.stride],
        writeable=False,
    )
