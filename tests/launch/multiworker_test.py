# SPDX-License-Identifier: Apache-2.0
"""`launch/multiworker.sh` itself, with workers that only pretend."""

import os
import subprocess
import time

import pytest

from tests import miniature

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
