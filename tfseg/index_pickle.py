# SPDX-License-Identifier: Apache-2.0
"""Pickles of indices along a train list, read without running them.

Mittal et al. (github.com/sud0301/semisup-semseg, splits/*/split_0.pkl) publish
their splits so, and French et al. use the one of PASCAL VOC: an array with a
permutation of the train list, of which the first images are the labeled ones.

A pickle is a program: it names functions and what to call them with. Here a
name that no array of numbers needs is refused, and of the others only a note
is taken. Python's own types alone are built.
"""

import io
import pickle
import re

from tfseg import id_lists

# What makes an array up to protocol 4, an array from 5 on, and a number.
_RECONSTRUCT = "numpy.core.multiarray._reconstruct"
_FROM_BUFFER = "numpy.core.numeric._frombuffer"
_SCALAR = "numpy.core.multiarray.scalar"
_ALLOWED = {
    _RECONSTRUCT,
    _FROM_BUFFER,
    _SCALAR,
    "numpy.ndarray",
    "numpy.dtype",
    # Bytes, where Python 3 writes what Python 2 can read.
    "_codecs.encode",
}


def read(path, size):
    """The indices of a pickle: a list, a tuple or a NumPy array of integers.

    Args:
      path: file that Python 2 or 3 wrote, with any protocol.
      size: N, length of the list that the indices count along, from 0.

    Returns:
      tuple of N ints, a permutation of 0..N-1.

    Raises:
      ValueError: missing or damaged file, one that wants to run something,
        or not a permutation; names the file, the value and the fix.
    """
    indices = _load(path)
    if len(indices) != size:
        raise ValueError(
            f"{path}: has {len(indices)} indices, but the train list has "
            f"{size} images. Fix: name the list that the indices were made "
            "for as `config.split.train_file`."
        )
    places = {}
    for place, index in enumerate(indices):
        if not 0 <= index < size:
            raise ValueError(
                f"{path}: the index {index} at place {place} is not in "
                f"0..{size - 1}. Fix: count the train list from 0."
            )
        if index in places:
            raise ValueError(
                f"{path}: the index {index} is there twice, at the places "
                f"{places[index]} and {place}. Fix: list each image once."
            )
        places[index] = place
    return tuple(indices)


class _Refused(ValueError):
    """The pickle wants to run something."""


class _Note:
    """A name in a pickle, or a call of it: noted, not done."""

    def __init__(self, name, arguments=()):
        self.name, self.arguments, self.state = name, arguments, None

    def __call__(self, *arguments):
        return _Note(self.name, arguments)

    def __setstate__(self, state):
        self.state = state


# The one in Python: in the one in C, a memo index in the file takes as much
# memory as it says.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module, name):
        # The name of the package since NumPy 2.
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full not in _ALLOWED:
            raise _Refused(full)
        return _Note(full)


def _load(path):
    data = id_lists.read_bytes(path)
    try:
        # Python 2 wrote the bytes of an array as text; latin1 keeps them.
        value = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        return _integers(value)
    except _Refused as error:
        raise ValueError(
            f"{path}: the pickle wants to use {str(error)!r}; refused, and "
            "nothing was run. Fix: save the indices as a list of integers, "
            "or list the ids in a text file."
        ) from None
    # A damaged pickle raises nearly anything.
    except Exception as error:
        raise ValueError(
            f"{path}: is not a pickle of integers in one list or array "
            f"({type(error).__name__}: {error}). Fix: download it again, or "
            "list the ids in a text file."
        ) from None


def _integers(value):
    if isinstance(value, (list, tuple)):
        return [_integer(item) for item in value]
    name = getattr(value, "name", None)
    if name == _RECONSTRUCT:
        _, shape, dtype, _, data = value.state
    elif name == _FROM_BUFFER:
        data, dtype, shape, _ = value.arguments
    else:
        raise ValueError(f"{value!r:.40}")
    return _decode(data, dtype, shape)


def _integer(item):
    if type(item) is int:
        return item
    if getattr(item, "name", None) == _SCALAR:
        dtype, data = item.arguments
        return _decode(data, dtype, (1,))[0]
    raise ValueError(f"{item!r:.40}")


def _decode(data, dtype, shape):
    """Integers of the bytes of an array."""
    kind, order = dtype.arguments[0], dtype.state[1]
    if not re.fullmatch("[iu][1248]", kind):
        raise ValueError(f"an array of {kind}")
    if isinstance(data, _Note):
        data, _ = data.arguments
    if isinstance(data, str):
        data = data.encode("latin1")
    size = int(kind[1])
    if shape != (len(data) / size,):
        raise ValueError(f"an array of shape {shape}, {len(data)} bytes")
    return [
        int.from_bytes(
            data[start : start + size],
            "big" if order == ">" else "little",
            signed=kind[0] == "i",
        )
        for start in range(0, len(data), size)
    ]
