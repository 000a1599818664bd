# SPDX-License-Identifier: Apache-2.0
"""ImageNet weights of keras.applications, for the ResNets, VGG16, DenseNets.

They are in HDF5 files with a group for each layer. A file has the same weights
with its classifier or without ("notop"); the classifier is left out. Names,
addresses and digests are those in the sources of Keras 2.15, keras/
applications/{resnet,vgg16,densenet}.py.

The convolutions of the ResNets have a bias before their BatchNorm. Ours have
none: mean - bias in its place is the same function, also in training, where
the batch's own mean takes the bias off. "caffe" there means BGR, here RGB, so
the first kernel changes the order of its input channels.
"""

import dataclasses
import hashlib
import os
import re

from absl import logging
from tensorflow import keras

from tfseg.networks.weights import files
from tfseg.networks.weights.names import base as names

_ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications"
_NOTOP = "_weights_tf_dim_ordering_tf_kernels_notop.h5"


@dataclasses.dataclass(frozen=True)
class Published:
    """A file of weights.

    Attributes:
      url: its address.
      md5: its digest.
      normalization: key of `networks.base.NORMALIZATIONS`.
    """

    url: str
    md5: str
    normalization: str


PUBLISHED = {
    **{
        name: Published(f"{_ADDRESS}/resnet/{name}{_NOTOP}", md5, "caffe")
        for name, md5 in {
            "resnet50": "4d473c1dd8becc155b73f8504c6f6626",
            "resnet101": "88cf7a10940856eca736dc7b7e228a21",
            "resnet152": "ee4c566cf9a93f14d82f913c2dc6dd0c",
        }.items()
    },
    "vgg16": Published(
        f"{_ADDRESS}/vgg16/vgg16{_NOTOP}",
        "6d6bbae143d832006294945121d1f1fc",
        "caffe",
    ),
    **{
        name: Published(f"{_ADDRESS}/densenet/{name}{_NOTOP}", md5, "torch")
        for name, md5 in {
            "densenet121": "30ee3e1110167f948a6b9946edeeb738",
            "densenet169": "b8c4d4c20dd625c148057b9ff1c1176b",
            "densenet201": "c13680b51ded0fb44dff2d8f86ac8bb1",
        }.items()
    },
}
# Layers after the features: the classifiers of files that have them.
_DROPPED = [r"predictions", r"fc[12]"]
# Layer 0 of a block is the shortcut.
_RESNET_LAYERS = ("shortcut", "reduce", "spatial", "expand")


def find(encoder):
    """Path of the published file for an encoder; downloads it if need be.

    Args:
      encoder: networks.base.Encoder.

    Raises:
      ValueError: there is none, it cannot be had, or it is damaged.
    """
    published = _published(encoder)
    cache = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    folder = os.path.join(cache, "models")
    name = os.path.basename(published.url)
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        _download(published, folder, name)
    if _md5(path) != published.md5:
        raise ValueError(
            f"{path} is not the published file, whose MD5 is {published.md5}: "
            "incomplete, or another one. Remove it to have it downloaded "
            "again, or set `config.network.weights` to its path to use it as "
            "it is."
        )
    return path


def _published(encoder):
    if encoder.architecture not in PUBLISHED:
        raise ValueError(
            "keras.applications has weights of "
            f"{', '.join(PUBLISHED)}, but not of this encoder "
            f"({encoder.architecture!r}). Choose such an encoder (a ResNet "
            "with config.network.stem='plain'), or give the path of weights "
            "of PyTorch in `config.network.weights`."
        )
    return PUBLISHED[encoder.architecture]


def _download(published, folder, name):
    logging.info("downloading %s to %s", published.url, folder)
    try:
        # Keras would fall back to /tmp where its folder does not exist.
        os.makedirs(folder, exist_ok=True)
        keras.utils.get_file(
            name, published.url, cache_dir=folder, cache_subdir=""
        )
    except Exception as error:
        # Keras turns failures of the network into bare Exceptions.
        raise ValueError(
            f"{name} is not in {folder} and cannot be downloaded: {error}. "
            f"Get it from {published.url} by other means and put it there, "
            "or give the path of a file in `config.network.weights`."
        ) from error


def _md5(path):
    digest = hashlib.md5()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def is_one(path):
    """Whether an HDF5 file is of keras.applications, by its first layers."""
    with files.open_hdf5(path) as file:
        return bool(
            {"conv1_conv", "conv1/conv", "block1_conv1"}
            & set(_layer_names(_weights_group(file)))
        )


def fit(path, encoder, variables):
    """Fits a file of keras.applications to an encoder.

    Args:
      path: of the file.
      encoder: networks.base.Encoder.
      variables: {path of attributes: variable} of it.

    Returns:
      names.base.Fit.

    Raises:
      ValueError: the file is damaged, or the encoder is built otherwise.
    """
    _check_encoder(path, encoder)
    family = re.match("[a-z]*", encoder.architecture)[0]
    tensors = read(path)
    if encoder.normalization == "caffe":
        _swap_red_and_blue(tensors)
    if family == "resnet":
        _take_off_biases(tensors)
    return names.fit(tensors, variables, _TARGETS[family], _DROPPED)


def read(path):
    """{"layer.kernel": array, ...} of a file of keras.applications.

    Variables go by their order: old files call a kernel "W".

    Raises:
      ValueError: the file is damaged.
    """
    tensors = {}
    with files.open_hdf5(path) as file:
        file = _weights_group(file)
        for layer in _layer_names(file):
            order = file[layer].attrs["weight_names"]
            arrays = [file[layer][_text(name)][()] for name in order]
            leaves = ("gamma", "beta", "moving_mean", "moving_variance")
            if arrays and arrays[0].ndim > 1:
                leaves = ("kernel", "bias")
            for leaf, array in zip(leaves, arrays):
                tensors[f"{layer}.{leaf}"] = array
    return tensors


def _weights_group(file):
    """A file of a whole model has its weights in a group."""
    return file.get("model_weights", file)


def _layer_names(group):
    return [_text(name) for name in group.attrs.get("layer_names", [])]


def _text(name):
    return name.decode() if isinstance(name, bytes) else name


def _swap_red_and_blue(tensors):
    """Makes the first kernel one for RGB, in place."""
    for layer in ("conv1_conv", "block1_conv1"):
        name = f"{layer}.kernel"
        if name in tensors:
            tensors[name] = tensors[name][:, :, ::-1]


def _take_off_biases(tensors):
    """Moves the bias of each convolution into its BatchNorm, in place."""
    for name in [name for name in tensors if name.endswith("_conv.bias")]:
        mean = name.replace("_conv.bias", "_bn.moving_mean")
        if mean in tensors:
            tensors[mean] = tensors[mean] - tensors.pop(name)


def _check_encoder(path, encoder):
    """Raises ValueError, with the option to set, if the encoder differs."""
    wanted = {"normalization": _published(encoder).normalization}
    found = {"normalization": encoder.normalization}
    if encoder.architecture.startswith("resnet"):
        first = encoder.stages[1][0].reduce.convolution
        wanted["stride_on"] = "1x1"
        found["stride_on"] = "1x1" if first.strides == (2, 2) else "3x3"
    if found != wanted:
        options = " and ".join(
            f"config.network.{name}={value!r}" for name, value in wanted.items()
        )
        raise ValueError(
            f"{path} is of keras.applications, whose {encoder.architecture} "
            f"needs {options}. Received: {found}."
        )


def _resnet(layer):
    if match := re.fullmatch(r"conv1_(conv|bn)", layer):
        return [f"stem/0/{_PARTS[match[1]]}"]
    match = re.fullmatch(r"conv(\d)_block(\d+)_([0-3])_(conv|bn)", layer)
    if not match:
        return []
    block = f"stages/{int(match[1]) - 2}/{int(match[2]) - 1}"
    return [f"{block}/{_RESNET_LAYERS[int(match[3])]}/{_PARTS[match[4]]}"]


def _vgg(layer):
    match = re.fullmatch(r"block(\d)_conv(\d)", layer)
    if not match:
        return []
    return [f"stages/{int(match[1]) - 1}/{int(match[2]) - 1}"]


def _densenet(layer):
    if match := re.fullmatch(r"conv1/(conv|bn)", layer):
        return [f"stem/{_PARTS[match[1]]}"]
    if match := re.fullmatch(r"pool(\d)_(conv|bn)", layer):
        part = match[2].replace("bn", "norm")
        return [f"stages/{int(match[1]) - 1}/transition/{part}"]
    match = re.fullmatch(r"conv(\d)_block(\d+)_(\d_conv|\d_bn)", layer)
    if match:
        dense = f"stages/{int(match[1]) - 2}/dense_layers/{int(match[2]) - 1}"
        return [f"{dense}/{_DENSE_LAYERS[match[3]]}"]
    return ["norm"] if layer == "bn" else []


_PARTS = {"conv": "convolution", "bn": "batch_norm"}
# The BatchNorms stand before the convolutions.
_DENSE_LAYERS = {
    "0_bn": "norm1",
    "1_conv": "conv1",
    "1_bn": "norm2",
    "2_conv": "conv2",
}
_TARGETS = {"resnet": _resnet, "vgg": _vgg, "densenet": _densenet}
