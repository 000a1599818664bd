# SPDX-License-Identifier: Apache-2.0
"""Unpickles what `torch.save` pickled, and runs nothing that it asks for.

A pickle is a program: it names functions and says with what to call them. Here
every name leads to a stand-in of this module or is refused, and the stand-ins
make descriptions of tensors, dictionaries, and things that nobody looks at.
"""

import dataclasses
import io
import pickle
import pickletools

import ml_dtypes
import numpy as np


class Refused(ValueError):
    """The file is not what it should be; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers that stand elsewhere in the file, none of which is read yet.

    Attributes:
      key: where.
      dtype: numpy dtype of one element.
      start: index of its first element there; 0 but in files of 2018.
      size: number of elements.
    """

    key: str
    dtype: np.dtype
    start: int
    size: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A strided view of a storage; all counts are elements, none is checked."""

    storage: Storage
    offset: int
    shape: tuple
    stride: tuple


def load(data, dtypes=None):
    """The object of one pickle.

    Args:
      data: bytes of the pickle.
      dtypes: dict to which the dtype of each storage is added, by its key.

    Returns:
      Python's own types, and a Tensor in the place of each tensor.

    Raises:
      Refused: it wants to run something.
      Exception: of any kind, if it is malformed; see `pickle.Unpickler`.
    """
    # A memo index takes as much memory as it says. The pickler counts.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name.endswith("PUT") and argument > count:
            raise Refused("is damaged: a memo index is out of range.")
    return _Unpickler(data, {} if dtypes is None else dtypes).load()


def split(file):
    """The bytes of the pickle at the position of a file, which moves past it.

    Args:
      file: binary file.

    Raises:
      ValueError: there is none.
    """
    start = file.tell()
    for _ in pickletools.genops(file):
        pass
    end = file.tell()
    file.seek(start)
    return file.read(end - start)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data, dtypes):
        # Of Python 2 there may be text that is not ASCII, in names of files.
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="replace")
        self._dtypes = dtypes

    def find_class(self, module, name):
        try:
            return _GLOBALS[f"{module}.{name}"]
        except KeyError:
            raise Refused(
                f"wants to run {f'{module}.{name}'!r}: refused. Weights are "
                "tensors and nothing else. If you trust the file, load it "
                "with PyTorch and save `model.state_dict()` alone."
            ) from None

    def persistent_load(self, pid):
        if pid[0] == "module":
            raise Refused(
                "holds a whole network with its code. Load it with PyTorch "
                "and save `model.state_dict()`."
            )
        _, kind, key, _, size, *view = pid
        if not isinstance(kind, _StorageType):
            raise Refused("is damaged: a storage has no known type.")
        start = 0
        if view and view[0] is not None:
            _, start, size = view[0]
        self._dtypes[key] = kind.dtype
        return Storage(key, kind.dtype, _whole(start), _whole(size))


class _StandIn:
    """What a name leads to. The pickle can call it, but not change it."""

    __slots__ = ("_make",)

    def __init__(self, make):
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments):
        return self._make(*arguments)

    def __setattr__(self, name, value):
        raise AttributeError(name)


class _StorageType(_StandIn):
    """Says of which dtype a storage is."""

    __slots__ = ()

    @property
    def dtype(self):
        return self._make()


class _Mapping(dict):
    """OrderedDict, without the attributes that PyTorch hangs on it."""

    def __setstate__(self, state):
        pass


class _Inert:
    """Something that comes along and that nobody looks at."""

    __slots__ = ()

    def __setstate__(self, state):
        pass


def _whole(number):
    if type(number) is not int or number < 0:
        raise Refused("is damaged: a size or a stride is not a whole number.")
    return number


def _rebuild_tensor(storage, offset, shape, stride, *rest):
    if not isinstance(storage, Storage):
        raise Refused("is damaged: a tensor has no storage.")
    return Tensor(
        storage,
        _whole(offset),
        tuple(_whole(n) for n in shape),
        tuple(_whole(n) for n in stride),
    )


def _rebuild_parameter(tensor, *rest):
    return tensor


def _inert(*arguments):
    return _Inert()


def _storage_type(dtype):
    return _StorageType(lambda: np.dtype(dtype))


_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
).split()
_INERT = [
    "torch.Size",
    "torch.device",
    *(f"torch.{name}" for name in _DTYPES),
    # NumPy's scalars: a checkpoint notes its best mIoU as one. The bytes of
    # it are text in the pickle.
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "_codecs.encode",
]
_GLOBALS = {
    "collections.OrderedDict": _StandIn(_Mapping),
    "torch._utils._rebuild_tensor": _StandIn(_rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": _StandIn(_rebuild_tensor),
    "torch._utils._rebuild_parameter": _StandIn(_rebuild_parameter),
    "torch._utils._rebuild_parameter_with_state": _StandIn(_rebuild_parameter),
    **{
        f"torch.{name}": _storage_type(dtype)
        for name, dtype in _STORAGES.items()
    },
    **{name: _StandIn(_inert) for name in _INERT},
}
