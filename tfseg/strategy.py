# SPDX-License-Identifier: Apache-2.0
"""Distribution: a name gives a `tf.distribute.Strategy`.

A batch size in the config is global. Every replica takes an equal, contiguous
part of it, replica 0 of worker 0 the first, so that any number of replicas
sees the same examples in the same order.
"""

import json
import os

import tensorflow as tf
from absl import logging
from tensorflow.python.distribute.cluster_resolver import (
    slurm_cluster_resolver as slurm,
)


def build(name, *, replicas=0):
    """The strategy; must be called before TensorFlow touches a device.

    Args:
      name: "mirrored" (one machine) or "multi_worker" (TF_CONFIG, or a SLURM
        job step).
      replicas: how many on this machine; 0 = all GPUs, or one on the CPU.
        Without GPUs, more than one makes logical CPU devices.

    Raises:
      ValueError: more replicas than GPUs, or a malformed TF_CONFIG.
    """
    if name == "multi_worker":
        return _multi_worker()
    gpus = tf.config.list_physical_devices("GPU")
    devices = _devices(gpus, replicas)
    logging.info("replicas: %s", ", ".join(devices))
    if gpus:
        return tf.distribute.MirroredStrategy(devices)
    # TensorFlow's default, collective operations, is for several machines or
    # NCCL; on one CPU a plain sum is enough, and cannot wait for a partner.
    return tf.distribute.MirroredStrategy(
        devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def _devices(gpus, replicas):
    if gpus and replicas > len(gpus):
        raise ValueError(
            f"`config.runtime.replicas` is {replicas}, but this machine has "
            f"{len(gpus)} GPUs. Set it to at most {len(gpus)}, or 0 for all."
        )
    if gpus:
        return [f"GPU:{i}" for i in range(replicas or len(gpus))]
    if replicas > 1:
        _split_cpu(replicas)
    return [f"CPU:{i}" for i in range(max(replicas, 1))]


def _split_cpu(replicas):
    """Makes logical CPU devices; possible only before TensorFlow starts."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    one = tf.config.LogicalDeviceConfiguration()
    try:
        tf.config.set_logical_device_configuration(cpu, [one] * replicas)
    except RuntimeError:
        available = len(tf.config.list_logical_devices("CPU"))
        if available < replicas:
            raise ValueError(
                f"`config.runtime.replicas` is {replicas}, but TensorFlow "
                f"has started with {available} CPU device(s). Build the "
                "strategy before anything else."
            ) from None


def _multi_worker():
    if "TF_CONFIG" not in os.environ:
        os.environ["TF_CONFIG"] = _tf_config_of_slurm(os.environ)
    _check_tf_config(os.environ["TF_CONFIG"])
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tf_config_of_slurm(environment, port=8888):
    """TF_CONFIG of one task of a SLURM job step.

    TensorFlow's own SlurmClusterResolver counts GPUs with nvidia-smi and so
    fails on a node without one; only its reading of host lists is used.
    """
    try:
        hosts = slurm.expand_hostlist(environment["SLURM_STEP_NODELIST"])
        tasks = slurm.expand_tasks_per_node(
            environment["SLURM_STEP_TASKS_PER_NODE"]
        )
        index = int(environment["SLURM_PROCID"])
    except KeyError as missing:
        raise ValueError(
            "`config.runtime.strategy` is 'multi_worker', but the environment"
            f" has neither TF_CONFIG nor {missing} of a SLURM job step. "
            "Start workers with launch/multiworker.sh N, or use 'mirrored'."
        ) from None
    workers = [
        f"{host}:{port + task}"
        for host, count in zip(hosts, tasks)
        for task in range(count)
    ]
    return json.dumps(
        {
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": index},
        }
    )


def _check_tf_config(text):
    example = (
        '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        value = json.loads(text)
        workers = value["cluster"]["worker"]
        task = value["task"]
        if task["type"] != "worker":
            raise ValueError(f"task type {task['type']!r} is not 'worker'")
        if not 0 <= int(task["index"]) < len(workers):
            raise ValueError(
                f"task index {task['index']} is not in 0..{len(workers) - 1}"
            )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"TF_CONFIG is malformed ({error!r}). Received: {text!r}. "
            f"It should look like {example}."
        ) from None


def worker(strategy):
    """(index of this worker, number of workers)."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict():
        return 0, 1
    return resolver.task_id, resolver.cluster_spec().num_tasks("worker")


def per_replica(name, batch, strategy):
    """The part of a global batch that one replica takes.

    Raises:
      ValueError: if the batch does not divide.
    """
    replicas = strategy.num_replicas_in_sync
    if batch % replicas:
        raise ValueError(
            f"`config.train.{name}` is {batch}, which {replicas} replicas "
            f"cannot share equally. Use {batch - batch % replicas or replicas}"
            f" or {batch - batch % replicas + replicas}."
        )
    return batch // replicas


def check_xla(xla, strategy):
    """Raises ValueError for a combination that TensorFlow cannot compile."""
    gpus = tf.config.list_physical_devices("GPU")
    if xla and strategy.num_replicas_in_sync > 1 and not gpus:
        raise ValueError(
            "`config.runtime.xla` does not work with several replicas on "
            "CPUs: set it to False, or `config.runtime.replicas` to 1."
        )


class Agreement:
    """Answers that are the same on all workers."""

    # Steps between two questions of whether to stop.

    _TALK_EVERY = 10

    def __init__(self, strategy):
        self._strategy = strategy
        self._worker, self._num_workers = worker(strategy)

    def stop(self, asked, step):
        """Whether any worker was asked to stop; several talk now and then."""
        if self._num_workers == 1:
            return asked
        if step % self._TALK_EVERY:
            return False
        return bool(self._total(tf.constant(float(asked))) > 0)

    def wait(self):
        """Returns when all workers have come here."""
        self.of_chief(0.0)

    def of_chief(self, value):
        """The chief's float on every worker."""
        if self._num_workers == 1:
            return value
        own = value if self._worker == 0 else 0.0
        replicas = self._strategy.num_replicas_in_sync // self._num_workers
        return float(self._total(tf.constant(own, tf.float64))) / replicas

    @tf.function
    def _total(self, value):
        """Sum over all replicas of all workers."""
        values = self._strategy.run(lambda: tf.identity(value))
        return self._strategy.reduce("SUM", values, axis=None)
