# SPDX-License-Identifier: Apache-2.0
"""How long a run takes to its first step, and whether its memory grows.

Each config starts in processes of its own, on the whole embedded data set.
`seconds` is from after the imports to the first report of a loss: opening and
checking the data (`open_seconds`), building the networks, the optimizer and
the checkpoints (`build_seconds`), then tracing and taking one step with its
callbacks (`step_seconds`). `ratio` is to the first config. Goal: less than 15
seconds on two cores.

The last config then trains on small crops and batches, with the validation,
pictures, reports and checkpoints of any run. `seconds` is there the time of a
step; `settled_mib` and `final_mib` are the resident memory after a tenth of
the steps and at the end, `ratio` the second over the first; `growth_mib` is
the slope of the second half, MiB in 1,000 steps, by least squares; `rss` has
all samples, (step, MiB), the `train/resident_mib` of the run's TensorBoard and
metrics.jsonl. They are read from /proc, so only where there is one.
"""

import contextlib
import copy
import json
import logging as python_logging
import os
import signal
import tempfile
import time

import numpy as np
from absl import logging

from tfseg import domains, lookup
from tfseg import session as session_lib
from tfseg import strategy as strategies
from tfseg import train
from tfseg.benchmarks import base
from tfseg.callbacks import report as reporting
from tfseg.datasets import digits

COLUMNS = ("seconds", "spread", "ratio", "peak_mib")
NETWORKS = ()
METHODS = ("supervised", "cutmix")
# Steps between two samples of the memory.
_EVERY = 50


def run(*, configs, steps=5000, repeats=3):
    """Measures the starts, then the memory.

    Args:
      configs: dict, name -> ConfigDict of the embedded data set.
      steps: of the run whose memory is measured.
      repeats: times that each config is started.

    Yields:
      Records.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "digits")
        digits.prepare(dir=data)
        reference = None
        for name, config in configs.items():
            config = _on(config, data)
            result = _starts(config, os.path.join(folder, name), repeats)
            reference = reference or result["seconds"]
            yield {
                "case": f"{name}, start",
                "precision": config.runtime.precision,
                "ratio": result["seconds"] / reference,
                **result,
            }
        if os.path.exists(reporting.MEMORY):
            config = small(config, steps)
            yield {
                "case": f"{name}, {steps:,} steps",
                "precision": config.runtime.precision,
                **base.fresh(steady, config, os.path.join(folder, "steady")),
            }


def _on(config, data):
    config = copy.deepcopy(config)
    config.dataset.dir = data
    return config


def _starts(config, workdir, repeats):
    """What the starts of a config have in common."""
    starts = [
        base.fresh(start, config, f"{workdir}_{number}")
        for number in range(repeats)
    ]
    return {
        **base.summary([sum(seconds.values()) for seconds, _ in starts]),
        **{
            name: float(np.median([seconds[name] for seconds, _ in starts]))
            for name in starts[0][0]
        },
        "peak_mib": max(peak for _, peak in starts),
    }


def start(config, workdir):
    """Seconds of each part of a start, and the peak of memory, MiB."""
    config = copy.deepcopy(config)
    config.train.report_every = 1
    os.makedirs(workdir)
    before, times = base.peak_mib(), [time.perf_counter()]
    strategy = strategies.build(
        config.runtime.strategy, replicas=config.runtime.replicas
    )
    opened = domains.open_all(config)
    times.append(time.perf_counter())
    leaf = lookup.module("methods", config.method.name)
    session = session_lib.Session(config, workdir, strategy, leaf, opened)
    times.append(time.perf_counter())

    def stop(step):
        del step
        times.append(time.perf_counter())
        # As a scheduler would: the run saves and ends.
        signal.raise_signal(signal.SIGTERM)

    with _at_reports(stop), contextlib.suppress(InterruptedError):
        session.run()
    names = ("open_seconds", "build_seconds", "step_seconds")
    return dict(zip(names, np.diff(times).tolist())), base.peak_mib() - before


def small(config, steps):
    """A config of the same parts whose steps are short."""
    config = copy.deepcopy(config)
    config.data.crop = (32, 32)
    config.train.steps = steps
    config.train.labeled_batch = 2
    config.train.unlabeled_batch = 4
    config.train.report_every = min(_EVERY, max(1, steps // 10))
    # The first one, which traces, is over when the memory counts as settled.
    config.train.evaluate_every = max(1, steps // 20)
    config.train.checkpoint_every = max(1, steps // 20)
    return config


def steady(config, workdir):
    """Time and memory of a run, sampled at its reports.

    Returns:
      dict, the fields of a record; see the module.
    """
    before = base.peak_mib()
    with _at_reports(lambda step: None):
        train.train(config, workdir)
    rss, seconds = [], []
    with open(os.path.join(workdir, "metrics.jsonl"), encoding="utf-8") as file:
        for line in map(json.loads, file):
            if "train/resident_mib" in line:
                rss.append((line["step"], line["train/resident_mib"]))
                seconds.append(1 / line["train/steps_per_second"])
    return {
        **base.summary(seconds),
        **growth(*zip(*rss)),
        "peak_mib": base.peak_mib() - before,
        "rss": rss,
    }


def growth(steps, mib):
    """How memory grows with the steps.

    Args:
      steps: of the samples, increasing.
      mib: MiB at each, of the same length.

    Returns:
      dict: settled_mib, final_mib, ratio and growth_mib, see the module.
    """
    steps, mib = np.asarray(steps), np.asarray(mib)
    settled = mib[np.searchsorted(steps, steps[-1] / 10)]
    late = steps >= steps[-1] / 2
    return {
        "settled_mib": float(settled),
        "final_mib": float(mib[-1]),
        "ratio": float(mib[-1] / settled),
        "growth_mib": float(1000 * np.polyfit(steps[late], mib[late], 1)[0]),
    }


class _Reports(python_logging.Handler):
    """Calls `see(step)` in the training thread at each report of a loss."""

    def __init__(self, see):
        super().__init__()
        self._see = see

    def emit(self, record):
        if record.msg == "step %d/%d %s":
            self._see(record.args[0])


@contextlib.contextmanager
def _at_reports(see):
    """Within, the log is read instead of shown."""
    handler, logger = _Reports(see), logging.get_absl_logger()
    before = logging.get_verbosity(), logger.propagate
    logger.propagate = False
    logging.set_verbosity(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        verbosity, logger.propagate = before
        logging.set_verbosity(verbosity)
