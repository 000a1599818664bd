# SPDX-License-Identifier: Apache-2.0
"""Published weights as what this project reads.

An encoder becomes a file for `config.network.weights`. A whole network
becomes a workdir, as if training had stopped at step 0: it can be evaluated,
exported and used to predict, and training with the same config starts from
it.
"""

import contextlib
import copy
import os
import tempfile

from absl import logging
from tensorflow import keras

from tfseg import config as config_lib
from tfseg import domains, lookup, runs
from tfseg import session as session_lib
from tfseg import strategy as strategies
from tfseg.callbacks import moving_average
from tfseg.networks.weights import files, pretrained
from tfseg.networks.weights.names import base as names

PARTS = ("encoder", "network")
_BRANCHES = {"network1": "branch1", "network2": "branch2"}


def convert(
    config,
    source,
    out,
    *,
    part="encoder",
    branch="branch1",
    partial=False,
    overwrite=False,
):
    """Converts a file of published weights.

    Args:
      config: ConfigDict; its network takes the weights. A whole network also
        needs its data set, for the classes and the split.
      source: path, or "imagenet"; see `networks.weights.pretrained`.
      out: new file (encoder) or workdir (network).
      part: "encoder" or "network".
      branch: of a file of CPS with two networks, "branch1" or "branch2"; a
        method that trains two takes both.
      partial: take what fits, and leave the rest as it is initialized.
      overwrite: replace `out` if it is of the kind that is written.

    Returns:
      networks.weights.names.base.Fit: what matched and what did not.

    Raises:
      ValueError: `out` exists, or the weights do not fit.
      OSError: cannot write.
    """
    out = os.path.normpath(out)
    if part == "network":
        runs.check_path(out)
    _check_free(out, part, overwrite)
    config_lib.validate(config)
    keras.utils.set_random_seed(config.seed)
    if config.runtime.precision == "auto":
        # There is no training to be faster.
        config = copy.deepcopy(config)
        config.runtime.precision = "float32"
    keras.mixed_precision.set_global_policy(config.runtime.precision)
    if part == "encoder":
        return _convert_encoder(config, source, out, branch, partial)
    return _convert_network(config, source, out, branch, partial)


def _check_free(out, part, overwrite):
    """Refuses to replace what is not asked for, or is something else."""
    if not os.path.lexists(out):
        return
    if part == "encoder":
        wanted = "file of weights in HDF5"
        alike = os.path.isfile(out) and (
            not os.path.getsize(out) or files.kind(out) == "hdf5"
        )
    else:
        wanted = "run (a folder with config.json)"
        names = os.listdir(out) if os.path.isdir(out) else ["a file"]
        alike = not names or "config.json" in names
    if not alike:
        raise ValueError(
            f"{out} exists already and is no {wanted}, so it is never "
            "replaced. Fix: choose another name."
        )
    if not overwrite:
        raise ValueError(
            f"{out} exists already. Fix: choose another name, or give "
            "--overwrite to replace it."
        )


def _convert_encoder(config, source, out, branch, partial):
    # The number of classes does not matter to an encoder.
    network = runs.build_network(runs.without_weights(config), num_classes=2)
    encoder = network.encoder.backbone
    fit = pretrained.fit(encoder, source, branch)
    _assign(fit, source, partial)
    with _replacing(out) as new:
        files.write(new, encoder, names.paths(encoder))
    return fit


def _convert_network(config, source, out, branch, partial):
    method = _method(config)
    if method.build.SEVERAL_DOMAINS:
        raise ValueError(
            f"The method {config.method.name!r} has a network for each data "
            "set; a file has one. Fix: --part=encoder, and "
            "`config.network.weights`."
        )
    (domain,) = domains.open_all(config)
    bare = runs.without_weights(config)
    networks, fits = [], []
    for place, name in enumerate(method.build.NETWORKS):
        network = runs.build_network(bare, domain.info.num_classes, place)
        # A method with two trained networks takes both of a file.
        chosen = _BRANCHES.get(name, branch)
        fits.append(pretrained.fit_network(network, source, chosen))
        _assign(fits[-1], source, partial)
        networks.append(network)
    with _replacing(out) as new:
        runs.claim(new, config)
        session = session_lib.Session(
            bare,
            new,
            strategies.build("mirrored", replicas=1),
            method,
            [domain],
        )
        for network, target in zip(networks, session.method.networks.values()):
            moving_average.copy(network, target)
        for kind in ("last", "best"):
            session.store.save(kind)
        runs.write_inputs(new, config, [domain])
    return fits[0]


def _method(config):
    leaf = lookup.module("methods", config.method.name)
    options = config.method.to_dict()
    options.pop("name")
    lookup.check_arguments(
        leaf.build, options | {"seed": config.seed}, "config.method"
    )
    return leaf


def _assign(fit, source, partial):
    problems = fit.problems()
    if not fit.matched or (problems and not partial):
        raise ValueError(
            f"{source} does not fit `config.network`:\n{problems}\nChange the "
            "network, or give --partial to take what fits."
        )
    if problems:
        logging.warning("%s fits in part:\n%s", source, problems)
    fit.assign()


@contextlib.contextmanager
def _replacing(path):
    """A path beside, which takes the place of `path` when all went well."""
    parent = os.path.dirname(path) or "."
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".convert_") as folder:
        # Files carry their names inside, so the new one has the right name.
        new = os.path.join(folder, os.path.basename(path))
        yield new
        if os.path.lexists(path):
            # A folder cannot be replaced in one step; the old one goes last.
            os.rename(path, f"{new}.old")
        os.rename(new, path)
