# SPDX-License-Identifier: Apache-2.0
"""Puts published weights into an encoder, or finds out what of them fits.

What a file is, its content says:
  - PyTorch (.pth, .pt) or safetensors, with the names of the encoder's family
    (a module of `names`) or of a whole network of CPS, CCT or CAC;
  - HDF5 of keras.applications, of `launch.convert_weights`, or of Keras'
    `encoder.save_weights`;
  - a checkpoint of TensorFlow that `encoder.save_weights` wrote.
"""

import re

from absl import logging

from tfseg import lookup
from tfseg.networks.weights import files, keras_applications
from tfseg.networks.weights.names import base as names

IMAGENET = "imagenet"
_FAMILIES = "networks.weights.names"


def load(encoder, weights):
    """Loads all variables of an encoder from a file; all of them or none.

    Args:
      encoder: networks.base.Encoder whose variables exist.
      weights: path of a file, see the module; or "imagenet" for the weights
        of keras.applications, see `keras_applications.find`.

    Raises:
      ValueError: no such file, a damaged one, or one of another architecture;
        lists the names that do not fit.
    """
    found = fit(encoder, weights)
    if found.problems():
        raise ValueError(
            f"{weights} does not fit the encoder "
            f"{encoder.architecture or type(encoder).__name__!r}:\n"
            f"{found.problems()}\n"
            "Choose `config.network` as the weights want it, or use "
            "`launch.convert_weights --partial` to take what fits."
        )
    found.assign()
    logging.info("%d variables from %s", len(found.matched), weights)


def fit(encoder, weights, branch="branch1"):
    """Fits a file to an encoder, without changing it.

    Args:
      encoder, weights: see `load`.
      branch: which of two networks in one file, as in those of CPS.

    Returns:
      names.base.Fit.

    Raises:
      ValueError: no such file, a damaged one, or one for an encoder that
        computes something else.
    """
    variables = names.paths(encoder)
    path = keras_applications.find(encoder) if weights == IMAGENET else weights
    kind = files.kind(path)
    if kind == "checkpoint":
        return names.fit_paths(files.read_checkpoint(path), variables)
    if kind != "hdf5":
        _warn_of_normalization(encoder)
        return _fit_best(path, variables, _rules(encoder, branch))
    if keras_applications.is_one(path):
        return keras_applications.fit(path, encoder, variables)
    if files.is_own(path):
        return names.fit_paths(files.read_own(path, encoder), variables)
    return names.fit_paths(
        files.read_by_keras(path, encoder, variables), variables
    )


def fit_network(network, path, branch="branch1"):
    """Fits a file with a whole network to ours, without changing it.

    Args:
      network: networks.base.Network whose variables exist.
      path: of a file of PyTorch or safetensors.
      branch: see `fit`.

    Returns:
      names.base.Fit.

    Raises:
      ValueError: no such file, or a damaged one.
    """
    _warn_of_normalization(network.encoder)
    rules = [_network_rules(name, branch) for name in lookup.names(_FAMILIES)]
    return _fit_best(path, names.paths(network), rules)


def _fit_best(path, variables, rules):
    """The fit by those rules that lead furthest, and leave least over."""
    tensors = files.read_pytorch(path)
    fits = [
        names.fit(tensors, variables, names.by_rules(rules), dropped)
        for rules, dropped in rules
    ]
    return max(fits, key=lambda f: (len(f.matched), -len(f.unmatched)))


def _warn_of_normalization(encoder):
    if encoder.normalization != "torch":
        logging.warning(
            "Weights of PyTorch were mostly trained with normalization="
            "'torch'; this network has %r.",
            encoder.normalization,
        )


def _rules(encoder, branch):
    """(rules, dropped), as many as may lead to variables of the encoder."""
    family = re.match("[a-z]*", encoder.architecture)[0]
    if family:
        leaf = lookup.module(_FAMILIES, family)
        yield leaf.RULES, leaf.DROPPED
    for name in lookup.names(_FAMILIES):
        rules, dropped = _network_rules(name, branch)
        yield _of_encoder(rules), [*dropped, *(pattern for pattern, _ in rules)]


def _network_rules(name, branch):
    """(rules, dropped) of one family for a whole network."""
    leaf = lookup.module(_FAMILIES, name)
    if hasattr(leaf, "branch"):
        return leaf.branch(branch), [r"branch\d\..*"]
    return (
        getattr(leaf, "NETWORK_RULES", leaf.RULES),
        getattr(leaf, "NETWORK_DROPPED", leaf.DROPPED),
    )


def _of_encoder(rules):
    """Rules for a network, made to lead to the backbone of its encoder.

    The backbone is the encoder itself or one of its attributes.
    """
    return [
        (pattern, re.sub(prefix, "", path))
        for pattern, path in rules
        for prefix in ("^encoder/", "^encoder/[^/]+/")
        if path.startswith("encoder/")
    ]
