# SPDX-License-Identifier: Apache-2.0
"""A training run on disk: what stands in a workdir, and how to load it.

config.json      the resolved configuration
dataset.json     class names and palette, so that serving needs no data
split.json       ids and their digest; of a further domain, these two are
                 dataset_NAME.json and split_NAME.json
metrics.jsonl    every scalar with its step
train/ val/      TensorBoard
checkpoints/     last/ and best/
summary.json     how the run ended
run.log          what the run said
"""

import copy
import dataclasses
import json
import os
import tempfile

import tensorflow as tf
from absl import logging
from ml_collections import config_dict
from tensorflow import keras

from tfseg import config as config_lib
from tfseg import ensemble, lookup
from tfseg.datasets import base as datasets


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained network and what belongs to it.

    Attributes:
      config: ConfigDict of the run; its data set is that of the network.
      info: datasets.base.Info.
      split: dict, what `data.splits.Split.to_dict` gave.
      network: the network, or ensemble.Average of several.
      step: the step of its checkpoint.
      checkpoint: path of its checkpoint.
    """

    config: config_dict.ConfigDict
    info: datasets.Info
    split: dict
    network: keras.Model
    step: int
    checkpoint: str


def write_json(path, value):
    """Writes beside and renames, so that a reader never sees half a file."""
    partial = f"{path}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
    os.replace(partial, path)


def read_json(path):
    """The value of a JSON file.

    Raises:
      ValueError: missing or malformed; names the file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing: {os.path.dirname(path)} is not the workdir "
            "of a run. Train first: python -m launch.train --workdir=..."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from None


def check_path(workdir):
    """Refuses a workdir where TensorFlow would take other checkpoints for its.

    It looks for the files to read or remove by pattern: a run in `run?` would
    remove those in `run1`, and one in `run[1]` would not find its own.

    Raises:
      ValueError: names the characters.
    """
    path = os.path.abspath(workdir)
    found = sorted((set(path) & set("*?[\\")) - {os.sep})
    if found:
        raise ValueError(
            f"{path} has {' '.join(found)} in its name, which TensorFlow "
            "takes for a pattern when it looks for checkpoints. Fix: use a "
            "folder whose path has none of * ? [ \\."
        )


def claim(workdir, config):
    """Makes a workdir, or finds that it holds a run of the same config.

    Raises:
      ValueError: not writable, its path is a pattern, or it belongs to another
        config; prints the difference.
    """
    check_path(workdir)
    try:
        os.makedirs(workdir, exist_ok=True)
        tempfile.TemporaryFile(dir=workdir).close()
    except OSError as error:
        raise ValueError(
            f"`--workdir` {workdir} is not writable: {error}. Choose another."
        ) from None
    path = os.path.join(workdir, "config.json")
    if not os.path.exists(path):
        return
    old, new = read_json(path), config.to_dict()
    if new["runtime"]["precision"] == "auto":
        # It stays what it was found to be.
        new["runtime"]["precision"] = old["runtime"]["precision"]
    lines = config_lib.difference(old, new)
    if lines:
        raise ValueError(
            f"{workdir} holds a run with another config (old -> new):\n  "
            + "\n  ".join(lines)
            + "\nUse the old values to resume, or another --workdir."
        )


def check_inputs(workdir, domains):
    """Refuses to resume a run on other ids or classes than it started with.

    Args:
      workdir: folder of the run.
      domains: list of domains.Domain.

    Raises:
      ValueError: names both digests, or the classes.
    """
    for domain in domains:
        path = _domain_file(workdir, "dataset", domain.number, domain.name)
        if os.path.exists(path):
            before = datasets.Info.from_dict(read_json(path))
            now = datasets.Info.from_dict(domain.info.to_dict())
            check_classes(path, before.to_dict(), now.to_dict())
        path = _domain_file(workdir, "split", domain.number, domain.name)
        if not os.path.exists(path):
            continue
        before, now = read_json(path)["digest"], domain.split.digest()
        if before != now:
            raise ValueError(
                f"The images of this run have changed: {path} has the ids' "
                f"digest {before}, now it is {now}. Restore the data set to "
                "resume, or use another --workdir."
            )


def check_classes(what, before, now):
    """Refuses classes that are not those that a network was trained on.

    Args:
      what: where `before` stands, for the message.
      before: dict of what `datasets.base.Info` holds.
      now: such a dict of the data set as it is.

    Raises:
      ValueError: names what differs.
    """
    lines = config_lib.difference({"classes": before}, {"classes": now})
    if lines:
        raise ValueError(
            f"The classes of this run have changed ({what} -> data set):\n  "
            + "\n  ".join(line.removeprefix("config.") for line in lines)
            + "\nFix: restore the list of classes, or train in another "
            "--workdir."
        )


def write_inputs(workdir, config, domains):
    """Notes what the run learns from, the config first: it claims the workdir.

    Called when all checks have passed, so that a mistake in the first config
    claims nothing.
    """
    write_json(os.path.join(workdir, "config.json"), config.to_dict())
    for domain in domains:
        for stem, part in [("dataset", domain.info), ("split", domain.split)]:
            path = _domain_file(workdir, stem, domain.number, domain.name)
            write_json(path, part.to_dict())


def _domain_file(workdir, stem, number, name):
    """The main domain's files have no name in theirs."""
    suffix = f"_{name}" if number else ""
    return os.path.join(workdir, f"{stem}{suffix}.json")


def build_network(config, num_classes, place=0):
    """A network with its variables, as `config` says.

    Args:
      config: ConfigDict.
      num_classes: classes including the background.
      place: 0, or 1 for `config.second_network` if there is one.
    """
    section = network_section(config, place)
    options = config[section].to_dict()
    leaf = lookup.module("networks", options.pop("name"))
    lookup.check_arguments(
        leaf.build, options | {"num_classes": num_classes}, f"config.{section}"
    )
    network = leaf.build(num_classes=num_classes, **options)
    network(tf.zeros([1, 32, 32, 3]))
    return network


def network_section(config, place):
    """Name of the section of `config` that says what a network is."""
    second = place and config.get("second_network")
    return "second_network" if second else "network"


def checkpoint_path(workdir, checkpoint="best"):
    """Path of a checkpoint.

    Args:
      workdir: of a run.
      checkpoint: "last", "best" (the last one where nothing was validated),
        or a path as it is.

    Raises:
      ValueError: there is none.
    """
    path = checkpoint
    if checkpoint in ("best", "last"):
        path = _latest(workdir, checkpoint)
    if path is None and checkpoint == "best":
        logging.warning("%s has no best checkpoint; taking the last", workdir)
        path = _latest(workdir, "last")
    if path is None or not tf.io.gfile.exists(f"{path}.index"):
        check_path(workdir)
        raise ValueError(
            f"No checkpoint {checkpoint!r} in {workdir}. Choices: best, last, "
            "or the path of one without its .index."
        )
    return path


def _latest(workdir, kind):
    return tf.train.latest_checkpoint(
        os.path.join(workdir, "checkpoints", kind)
    )


def load(workdir, checkpoint="best", network=""):
    """A trained network of a run.

    Args:
      workdir: of `launch.train`.
      checkpoint: "best", "last" or a path.
      network: name of one of the method's networks, "average" of them all, or
        "" for the one that the method deploys.

    Returns:
      Run.

    Raises:
      ValueError: no run, no checkpoint or no such network there.
    """
    config = config_dict.ConfigDict(
        read_json(os.path.join(workdir, "config.json"))
    )
    path = checkpoint_path(workdir, checkpoint)
    keras.mixed_precision.set_global_policy(config.runtime.precision)
    if _method(config).SEVERAL_DOMAINS:
        number, name, config = _chosen_domain(config, network)
        places = {name: 0}
    else:
        number, name, places = 0, "", _chosen(config.method.name, network)
    info, split = (
        read_json(_domain_file(workdir, stem, number, name))
        for stem in ("dataset", "split")
    )
    info = datasets.Info.from_dict(info)
    networks = {
        name: build_network(without_weights(config), info.num_classes, place)
        for name, place in places.items()
    }
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    if _method(config).SEVERAL_DOMAINS:
        part = tf.train.Checkpoint(
            domain_networks=tf.train.Checkpoint(**networks), step=step
        )
    else:
        part = tf.train.Checkpoint(**networks, step=step)
    status = tf.train.Checkpoint(method=part).restore(path)
    status.expect_partial().assert_existing_objects_matched()
    found = list(networks.values())
    network = found[0] if len(found) == 1 else ensemble.Average(found)
    return Run(config, info, split, network, int(step), path)


def further_domains(run):
    """Names of a run's data sets after the first one, for `load`."""
    return list(run.config.get("domains", {}))


def _method(config):
    return lookup.module("methods", config.method.name).build


def without_weights(config):
    """A copy of a config whose networks start with random weights.

    Where a checkpoint holds what came of published ones.
    """
    config = copy.deepcopy(config)
    for section in ("network", "second_network"):
        network = config.get(section, {})
        # That of class activation maps has another network's encoder.
        for options in (network, network.get("backbone") or {}):
            if "weights" in options:
                options.weights = ""
    return config


def _chosen(method, network):
    """{name: place} of the networks of a method that `network` asks for."""
    names = lookup.module("methods", method).build.NETWORKS
    places = {name: place for place, name in enumerate(names)}
    if network == "average" and len(names) > 1:
        return places
    if network and network not in names:
        average = ("average",) if len(names) > 1 else ()
        raise ValueError(
            f"`--network` must be one of {', '.join(names + average)} for a "
            f"run of {method!r}. Received: {network!r}."
        )
    name = network or names[0]
    return {name: places[name]}


def _chosen_domain(config, network):
    """(number, name, config) of the domain whose network is asked for."""
    configs = config_lib.domain_configs(config)
    name = network or config.dataset.name
    if name not in configs:
        raise ValueError(
            f"`--network` must be one of {', '.join(configs)}, the data sets "
            f"of the run. Received: {network!r}."
        )
    return list(configs).index(name), name, configs[name]
