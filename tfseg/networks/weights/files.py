# SPDX-License-Identifier: Apache-2.0
"""Files of weights: which kind one is, and the tensors in it.

Our own kind is an HDF5 file with a data set for each variable of an encoder,
at its path of attributes (see `names.base.paths`). Keras' own `.weights.h5`
is no substitute: of lists in lists it leaves the variables out.
"""

import contextlib
import os

import h5py

# Makes NumPy know bfloat16, which safetensors asks it for.
import ml_dtypes  # noqa: F401
import safetensors
import tensorflow as tf

from tfseg.networks.weights import pytorch

# Marks our own kind, and counts its versions.
_MARK = "tfseg_encoder"
_VERSION = 1
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_HDF5_ERRORS = (OSError, KeyError, RuntimeError, TypeError, ValueError)


def kind(path):
    """Of which kind the file is, by its content.

    Returns:
      "checkpoint" (of TensorFlow, given without its .index), "hdf5",
      "safetensors", or "pytorch" for all else.

    Raises:
      ValueError: there is no such file.
    """
    if tf.io.gfile.exists(f"{path}.index"):
        return "checkpoint"
    if not os.path.isfile(path):
        raise ValueError(
            f"`weights` must name an existing file. Received: {path!r}. It "
            "may be a .pth, .safetensors or .h5 file, a checkpoint of "
            "TensorFlow without its .index, or 'imagenet'."
        )
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    # The length of the header, 8 bytes, then the header: JSON.
    return "safetensors" if head[8:9] == b"{" else "pytorch"


def read_pytorch(path):
    """{name: array} of a file of PyTorch or safetensors.

    Raises:
      ValueError: it is damaged, or something else.
    """
    found = kind(path)
    if found == "pytorch":
        return pytorch.read(path)
    if found != "safetensors":
        raise ValueError(
            f"{path} must be a file of PyTorch or safetensors. Received: a "
            f"file of kind {found!r}."
        )
    # Of dtypes that NumPy has not, each version says it in its own way.
    errors = (safetensors.SafetensorError, AttributeError, TypeError)
    with _readable(path, errors):
        with safetensors.safe_open(path, "np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    return pytorch.without_module(tensors)


def read_checkpoint(path):
    """{path of attributes: array} of a checkpoint of TensorFlow.

    Raises:
      ValueError: it is damaged.
    """
    # TensorFlow's reader turns some errors into Python's.
    with _readable(path, (tf.errors.OpError, IndexError, RuntimeError)):
        reader = tf.train.load_checkpoint(path)
        dtypes = reader.get_variable_to_dtype_map()
        return {
            name[: -len(_VALUE)]: reader.get_tensor(name)
            for name, dtype in dtypes.items()
            if name.endswith(_VALUE) and dtype.is_floating
        }


@contextlib.contextmanager
def open_hdf5(path):
    """An h5py.File.

    Raises:
      ValueError: it is damaged; also for what goes wrong inside the block.
    """
    with _readable(path, _HDF5_ERRORS):
        with h5py.File(path, "r") as file:
            yield file


def is_own(path):
    """Whether `write` has written the HDF5 file."""
    with open_hdf5(path) as file:
        return _MARK in file.attrs


def read_own(path, encoder):
    """{path of attributes: array} of a file of `write`.

    Raises:
      ValueError: it is damaged, or of another encoder.
    """
    wanted = _description(encoder)
    with open_hdf5(path) as file:
        found = {name: file.attrs[name] for name in wanted}
        tensors = {name: item[()] for name, item in _datasets(file).items()}
    for name, value in wanted.items():
        if found[name] != value:
            raise ValueError(
                f"{path} is for {name}={found[name]!r}, but the encoder has "
                f"{name}={value!r}."
            )
    return tensors


def write(path, encoder, variables):
    """Writes the variables of an encoder.

    Args:
      path: of the new file.
      encoder: networks.base.Encoder.
      variables: {path of attributes: variable}, all or some.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update(_description(encoder))
        for name, variable in variables.items():
            file.create_dataset(name, data=variable.numpy())


def _description(encoder):
    return {
        _MARK: _VERSION,
        "architecture": encoder.architecture,
        "normalization": encoder.normalization,
    }


def read_by_keras(path, encoder, variables):
    """{path of attributes: array} of a file of Keras' `save_weights`.

    Args:
      path: of an HDF5 file.
      encoder: that wrote it, or one alike; has its own values afterwards.
      variables: {path of attributes: variable} of it.

    Raises:
      ValueError: it does not fit the encoder.
    """
    with open_hdf5(path) as file:
        count = len(_datasets(file))
    # Keras does not notice what its file leaves out.
    if count != len(variables):
        raise ValueError(
            f"{path} has {count} variables, the encoder has "
            f"{len(variables)}. Write a file of `launch.convert_weights`, or "
            "a checkpoint: `encoder.save_weights` to a path without suffix."
        )
    before = {name: variable.numpy() for name, variable in variables.items()}
    try:
        encoder.load_weights(path)
        return {name: variable.numpy() for name, variable in variables.items()}
    except _HDF5_ERRORS as error:
        raise ValueError(f"{path} does not fit the encoder: {error}") from error
    finally:
        for name, variable in variables.items():
            variable.assign(before[name])


def _datasets(file):
    found = {}

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(add)
    return found


@contextlib.contextmanager
def _readable(path, errors):
    try:
        yield
    except errors as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}). Download "
            "or copy it again."
        ) from error
