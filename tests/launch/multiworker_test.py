# SPDX-License-Identifier: Apache-2.0
"""`launch/multiworker.sh`, with workers that pretend and with real ones."""

import json
import os
import subprocess
import time

import numpy as np
import pytest

from tests import miniature
from tfseg import runs, train

_WORKER = """#!/bin/bash
if [ "$1" = - ]; then cat >/dev/null; echo x; exit 0; fi
trap 'sleep $((RANDOM % 2 + 1)); echo saved >> LOG; exit 1' TERM
echo started >> LOG
while true; do sleep 0.1; done
"""


@pytest.mark.parametrize("num_workers", [1, 2])
def test_sigterm_waits_until_all_workers_have_saved(tmp_path, num_workers):
    log, worker = tmp_path / "log", tmp_path / "python"
    worker.write_text(_WORKER.replace("LOG", str(log)))
    worker.chmod(0o755)
    process = subprocess.Popen(
        ["launch/multiworker.sh", str(num_workers)],
        cwd=miniature.command("train")["cwd"],
        env={**os.environ, "PYTHON": str(worker)},
    )
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if log.exists() and log.read_text().count("started") == num_workers:
            break
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=30) == 1
    assert log.read_text().count("saved") == num_workers


def test_one_that_fails_ends_the_others(tmp_path):
    log, worker = tmp_path / "log", tmp_path / "python"
    text = _WORKER.replace("LOG", str(log))
    fail = 'case "$TF_CONFIG" in *"index\\": 1"*) exit 3;; esac\n'
    worker.write_text(text.replace("echo started", fail + "echo started"))
    worker.chmod(0o755)
    done = subprocess.run(
        ["launch/multiworker.sh", "2"],
        cwd=miniature.command("train")["cwd"],
        env={**os.environ, "PYTHON": str(worker)},
        timeout=30,
    )
    assert done.returncode == 1


@pytest.mark.parametrize("words", [[], ["0"], ["two"]])
def test_usage(words):
    done = subprocess.run(
        ["launch/multiworker.sh", *words],
        cwd=miniature.command("train")["cwd"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "NUM_WORKERS" in done.stderr


def _steps(workdir):
    path = os.path.join(workdir, "metrics.jsonl")
    return [json.loads(line)["step"] for line in open(path)]


def test_two_workers_end_with_the_weights_of_one(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine")
    # More steps than the workers go without asking each other to stop; and
    # pictures, which the chief draws alone.
    config = miniature.config(folder, train__steps=12, train__num_pictures=1)
    # Else each worker normalizes by the statistics of its own part.
    config.network.batch_norm.synchronized = True
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    train.train(config, one)
    arguments = miniature.command("train")
    done = subprocess.run(
        [
            "launch/multiworker.sh",
            "2",
            *miniature.flags(config),
            f"--workdir={two}",
        ],
        cwd=arguments["cwd"],
        env={**arguments["env"], "PYTHON": arguments["args"][0]},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    nets = [runs.load(workdir, "last").network for workdir in (one, two)]
    for a, b in zip(nets[0].variables, nets[1].variables):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert sorted(os.listdir(two)) >= ["checkpoints", "config.json"]
    assert _steps(one) == _steps(two)
