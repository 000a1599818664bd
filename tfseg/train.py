# SPDX-License-Identifier: Apache-2.0
"""Training, from a config to a workdir; run again, it resumes."""

import contextlib
import logging as python_logging
import os

import tensorflow as tf
from absl import logging
from tensorflow import keras

from tfseg import config as config_lib
from tfseg import examples, lookup, runs
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
    config_lib.validate(config)
    method_leaf = _check_leaves(config)
    strategy = strategies.build(
        config.runtime.strategy, replicas=config.runtime.replicas
    )
    _check_batches(config, method_leaf.build, strategy)
    strategies.check_xla(config.runtime.xla, strategy)
    _set_runtime(config)
    worker, _ = strategies.worker(strategy)
    runs.claim(workdir, config)
    with _log_file(workdir, worker):
        dataset = examples.open_dataset(config)
        split = examples.checked_split(config, dataset)
        if method_leaf.build.UNLABELED_VIEW and not split.unlabeled:
            raise ValueError(
                f"{config.dataset.dir}: there are no unlabeled images, but "
                f"the method {config.method.name!r} learns from them. Add "
                "images without masks to images/, or set "
                "`config.split.unlabeled_includes_labeled` to True."
            )
        runs.check_split(workdir, split)
        session = session_lib.Session(
            config, workdir, strategy, method_leaf, dataset, split
        )
        if worker == 0:
            runs.write_inputs(workdir, config, dataset.info, split)
        return session.run()


def _check_leaves(config):
    """Finds every wrong name or option before anything is read."""
    method = lookup.module("methods", config.method.name)
    options = dict(config.method)
    options.pop("name")
    lookup.check_arguments(
        method.build, options | {"seed": config.seed}, "config.method"
    )
    for place in (0, 1):
        section = runs.network_section(config, place)
        options = dict(config[section])
        network = lookup.module("networks", options.pop("name"))
        lookup.check_arguments(
            network.build, options | {"num_classes": 2}, f"config.{section}"
        )
    lookup.module("datasets", config.dataset.name)
    return method


def _check_batches(config, method, strategy):
    sizes = {"labeled_batch": config.train.labeled_batch}
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


def _set_runtime(config):
    keras.utils.set_random_seed(config.seed)
    keras.mixed_precision.set_global_policy(config.runtime.precision)
    if config.runtime.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def _log_file(workdir, worker):
    """Everything that is logged goes to the workdir as well."""
    name = "run.log" if worker == 0 else f"worker_{worker}.log"
    handler = python_logging.FileHandler(os.path.join(workdir, name))
    handler.setFormatter(logging.PythonFormatter())
    logger = logging.get_absl_logger()
    logger.addHandler(handler)
    try:
        yield
    except Exception as error:
        # The screen gets it from who catches it.
        handler.stream.write(f"{type(error).__name__}: {error}\n")
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
