# SPDX-License-Identifier: Apache-2.0
"""What it costs to divide a step among replicas or workers of this machine.

Logical CPU devices, and processes that are workers, share the same cores: this
is overhead, not speed-up. A step has the same global batch everywhere, which
is in memory, and its callbacks. One replica takes turns with the others in
their process, that of the first worker; `ratio` is over it. Before a step of
several workers all of them wait for each other, so that the one replica has
the machine for itself. `peak_mib` is above what a process (of the first
worker) had before it built the networks.
"""

import concurrent.futures
import functools
import json
import os
import socket

import tensorflow as tf

from tfseg import lookup
from tfseg import strategy as strategies
from tfseg.benchmarks import base
from tfseg.benchmarks import step as step_lib

COLUMNS = (
    "labeled",
    "unlabeled",
    "seconds",
    "spread",
    "ratio",
    "images_per_second",
    "peak_mib",
)
NETWORKS = ("fcn",)
METHODS = ("cutmix",)
# (replicas of a worker, workers)
CASES = {"1 replica": (1, 1), "2 replicas": (2, 1), "2 workers": (1, 2)}


def run(*, networks, methods, size=64, batch=8, repeats=15):
    """Measures methods one after the other, each in all cases.

    Args:
      networks: dict, name -> `config.network`.
      methods: dict, name -> `config.method`.
      size: side of the crops, pixels.
      batch: labeled images in a step; there are twice as many unlabeled ones.
      repeats: times that a step is timed.

    Yields:
      Records.
    """
    for network, network_options in networks.items():
        for name, options in methods.items():
            for case, (replicas, workers) in CASES.items():
                result = on_workers(
                    workers,
                    replicas,
                    network_options,
                    options,
                    size,
                    batch,
                    repeats,
                )
                yield {
                    "case": f"{name}, {case}",
                    "network": network,
                    "precision": "float32",
                    "size": size,
                    "labeled": batch,
                    "unlabeled": 2 * batch,
                    "images_per_second": 3 * batch / result["seconds"],
                    **result,
                }


def on_workers(workers, *args):
    """`measure` in fresh processes, one for each worker; what the first has."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        addresses = _addresses(workers)
        results = [
            pool.submit(base.fresh, _work, number, addresses, *args)
            for number in range(workers)
        ]
        return results[0].result()


def _addresses(count):
    """Ports of this machine that the system has just given out as free."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    names = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return names


def _work(number, addresses, *args):
    # Several replicas or processes on one GPU are not what is measured.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if len(addresses) > 1:
        os.environ["TF_CONFIG"] = json.dumps(
            {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": number},
            }
        )
    return measure(len(addresses), *args)


def measure(workers, replicas, network_options, options, size, batch, repeats):
    """What one worker measures; to be called before TensorFlow starts."""
    lookup.module("networks", network_options["name"])
    before = base.peak_mib()
    strategy = strategies.build(
        "mirrored" if workers == 1 else "multi_worker", replicas=replicas
    )
    parts = (network_options, options, size, batch)
    step = training_step(strategy, *parts)
    base.seconds({"step": step}, repeats=1)
    peak = base.peak_mib() - before
    agreement, turns = strategies.Agreement(strategy), {}

    def wait():
        agreement.wait()
        return ()

    if strategies.worker(strategy)[0] == 0:
        turns["one"] = training_step(strategies.build("mirrored"), *parts)
    times = base.seconds({**turns, "wait": wait, "step": step}, repeats)
    reference = times.get("one", times["step"])
    return {
        **base.summary(times["step"]),
        "ratio": base.ratio(times["step"], reference),
        "peak_mib": peak,
    }


def training_step(strategy, network_options, options, size, batch):
    """A function that takes a step, of which every replica has its part."""
    method = step_lib.build_method(network_options, options, strategy)
    examples = step_lib.examples(method, batch, 2 * batch, size)
    step = step_lib.Step(method)
    return functools.partial(step, divided(strategy, examples))


def divided(strategy, examples):
    """A global batch as the parts of the replicas of this worker."""
    count = strategy.num_replicas_in_sync

    def part(context):
        number = context.replica_id_in_sync_group
        return tf.nest.map_structure(
            lambda values: tf.split(values, count)[number], examples
        )

    return strategy.experimental_distribute_values_from_function(part)
