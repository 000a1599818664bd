# SPDX-License-Identifier: Apache-2.0
"""Training, from a config to a workdir; run again, it resumes."""

import contextlib
import copy
import fcntl
import logging as python_logging
import os
import time

import tensorflow as tf
from absl import logging
from tensorflow import keras

from tfseg import config as config_lib
from tfseg import domains as domain_lib
from tfseg import lookup, precision, pseudo_labels, runs
from tfseg import session as session_lib
from tfseg import strategy as strategies


def train(config, workdir):
    """Trains as `config` says, or goes on where `workdir` stands.

    Args:
      config: ConfigDict, see tfseg.config.
      workdir: folder of the run.

    Returns:
      dict, the summary that is also in `workdir/summary.json`.

    Raises:
      ValueError: something is wrong with the config or the data.
      FloatingPointError: a loss is not finite.
      InterruptedError: stopped by SIGTERM after a save.
    """
    _, strategy = _prepared(config)
    if config.runtime.deterministic:
        tf.config.experimental.enable_op_determinism()
    return _run(copy.deepcopy(config), workdir, strategy)


def check(config):
    """Refuses what `train` would refuse, as far as it shows at once.

    Args:
      config: ConfigDict, see tfseg.config.

    Returns:
      list of domains.Domain.

    Raises:
      ValueError: something is wrong with the config or the data.
    """
    stages, _ = _prepared(config)
    domains = domain_lib.open_all(config)
    for stage in stages:
        _check_unlabeled(stage, domains)
    return domains


def _check_unlabeled(config, domains):
    for domain in domains:
        domain.check_unlabeled(_method(config))


def _prepared(config):
    """The stages of a config, see `_stages`, and the strategy.

    That comes before all else: TensorFlow has not touched a device yet.
    """
    config_lib.validate(config)
    stages = _stages(config)
    for number, stage in enumerate(stages):
        _check_leaves(stage, "config.method" + number * ".teacher")
    strategy = strategies.build(
        config.runtime.strategy, replicas=config.runtime.replicas
    )
    for stage in stages:
        _check_batches(stage, strategy)
    strategies.check_xla(config.runtime.xla, strategy)
    return stages, strategy


def _stages(config):
    """The config, and those of its teacher, of the teacher's teacher, ..."""
    stages = [config]
    while _method(stages[-1]).PSEUDO_LABELED:
        stages.append(_of_teacher(stages[-1]))
    return stages


def _method(config):
    return lookup.module("methods", config.method.name).build


def _of_teacher(config):
    """The config of the run that labels what `config` learns from."""
    teacher = copy.deepcopy(config)
    teacher.method = copy.deepcopy(config.method.get("teacher", {}))
    if "name" not in teacher.method:
        raise ValueError(
            f"The method {config.method.name!r} needs a teacher. Fix: set "
            "`config.method.teacher` to the options of a method, with its "
            "name."
        )
    return teacher


def _run(config, workdir, strategy, domains=None):
    """One stage, after those that it needs.

    Args:
      config: ConfigDict of the stage; its precision is resolved here.
      workdir: folder of its run.
      strategy: tf.distribute.Strategy.
      domains: list of domains.Domain, where it is known from another stage.

    Returns:
      dict, the summary.
    """
    worker, _ = strategies.worker(strategy)
    runs.claim(workdir, config)
    with _log_file(workdir, worker):
        domains = domains or domain_lib.open_all(config)
        _check_unlabeled(config, domains)
        runs.check_inputs(workdir, domains)
        precision.resolve(config, workdir, strategy)
        keras.mixed_precision.set_global_policy(config.runtime.precision)
        logging.info("precision: %s", config.runtime.precision)
        keras.utils.set_random_seed(config.seed)
        leaf = lookup.module("methods", config.method.name)
        # Before any stage, so that its mistakes cost no hour of training.
        session = session_lib.Session(config, workdir, strategy, leaf, domains)
        if worker == 0:
            runs.write_inputs(workdir, config, domains)
        if leaf.build.PSEUDO_LABELED:
            _label(session)
        return session.run()


def _label(session):
    """Trains the teacher of a session, and has it label the images.

    Skipped where it is done; what is half done goes on.
    """
    folder, config = session.pseudo_labels, session.config
    if not pseudo_labels.is_complete(folder):
        workdir = os.path.join(session.workdir, "teacher")
        logging.info("stage 1 of 3, training the teacher: %s", workdir)
        try:
            summary = _run(
                _of_teacher(config), workdir, session.strategy, session.domains
            )
        except ValueError as error:
            # Its options are not where those of a run are.
            text = str(error).replace("config.method", "config.method.teacher")
            raise ValueError(text) from error
        logging.info("stage 2 of 3, labeling images: %s", folder)
        start = time.perf_counter()
        (domain,) = session.domains
        teacher, ids = runs.load(workdir), pseudo_labels.ids(domain.split)
        worker, num_workers = strategies.worker(session.strategy)
        threshold = config.method.threshold
        pseudo_labels.write(
            domain.dataset,
            ids[worker::num_workers],
            folder,
            pseudo_labels.by_network(teacher, threshold),
        )
        session.agreement.wait()
        seconds = summary["seconds"] + time.perf_counter() - start
        if session.chief:
            pseudo_labels.describe(
                teacher, ids, folder, seconds=seconds, threshold=threshold
            )
    logging.info("stage 3 of 3, learning from labels and pseudo labels")
    session.count(pseudo_labels.seconds(folder))


def _check_leaves(config, place):
    """Finds every wrong name or option before anything is read.

    Args:
      config: ConfigDict of a stage.
      place: of its method in the config that the user gave.
    """
    method = lookup.module("methods", config.method.name)
    options = dict(config.method)
    options.pop("name")
    lookup.check_arguments(method.build, options | {"seed": config.seed}, place)
    for place in (0, 1):
        section = runs.network_section(config, place)
        options = dict(config[section])
        network = lookup.module("networks", options.pop("name"))
        lookup.check_arguments(
            network.build, options | {"num_classes": 2}, f"config.{section}"
        )
    for own in config_lib.domain_configs(config).values():
        lookup.module("datasets", own.dataset.name)
    _check_data(config, method.build)


def _check_data(config, method):
    """Refuses data that a method cannot learn from, or leaves out."""
    name, data = config.method.name, config.data
    own = method.PSEUDO_LABELED or method.IMAGE_LABELED
    if data.records and (own or data.pseudo_labels or config.domains):
        raise ValueError(
            f"The method {name!r} reads its labels beside the images of a "
            "data set, not from records. Fix: leave `config.data.records` "
            "empty."
        )
    if bool(config.domains) != method.SEVERAL_DOMAINS:
        raise ValueError(
            f"The method {name!r} learns from "
            + (
                "several data sets. Fix: name further ones in `config.domains`."
                if method.SEVERAL_DOMAINS
                else "one data set. Fix: leave `config.domains` empty."
            )
        )
    weak = config.method.get("weak_weight", 0) > 0
    if weak != bool(data.pseudo_labels):
        raise ValueError(
            f"The method {name!r} has "
            + (
                "`config.method.weak_weight` > 0. Fix: name the folder that "
                "launch.pseudo_labels wrote in `config.data.pseudo_labels`."
                if weak
                else "no use for `config.data.pseudo_labels`. Fix: leave it "
                "empty, or set `config.method.weak_weight` > 0 of a method "
                "that has it."
            )
        )


def _check_batches(config, strategy):
    method = _method(config)
    sizes = {}
    if method.LABELED_VIEW:
        sizes["labeled_batch"] = config.train.labeled_batch
    if method.UNLABELED_VIEW:
        sizes["unlabeled_batch"] = config.train.unlabeled_batch
    for name, batch in sizes.items():
        if not batch:
            raise ValueError(
                f"`config.train.{name}` is 0, but the method "
                f"{config.method.name!r} learns from such images."
            )
        strategies.per_replica(name, batch, strategy)
    unlabeled = sizes.get("unlabeled_batch", 1)
    group = method.UNLABELED_GROUP * strategy.num_replicas_in_sync
    if unlabeled > 1 and unlabeled % group:
        raise ValueError(
            f"`config.train.unlabeled_batch` is {unlabeled}, but the method "
            f"{config.method.name!r} on {strategy.num_replicas_in_sync} "
            f"replica(s) needs a multiple of {group}, or 1."
        )


@contextlib.contextmanager
def _log_file(workdir, worker):
    """Everything that is logged goes to the workdir as well.

    Raises:
      ValueError: another process writes there.
    """
    name = "run.log" if worker == 0 else f"worker_{worker}.log"
    with open(os.path.join(workdir, name), "a", encoding="utf-8") as file:
        _lock(file, workdir)
        handler = python_logging.StreamHandler(file)
        handler.setFormatter(logging.PythonFormatter())
        logger = logging.get_absl_logger()
        logger.addHandler(handler)
        try:
            yield
        except Exception as error:
            # The screen gets it from who catches it.
            file.write(f"{type(error).__name__}: {error}\n")
            raise
        finally:
            logger.removeHandler(handler)


def _lock(file, workdir):
    """Keeps a second process out until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{workdir}: another process is training there. Fix: wait until "
            "it has ended, or give another --workdir."
        ) from None
    except OSError:
        logging.warning(
            "%s: a file system without locks; train there once at a time",
            workdir,
        )
