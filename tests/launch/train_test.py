# SPDX-License-Identifier: Apache-2.0
"""`launch.train` as a user runs it: killed, stopped, wrong."""

import json
import os
import random
import signal
import subprocess
import time

import pytest

from tests import miniature
from tfseg import lookup, runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return miniature.make_folder(tmp_path_factory.mktemp("data") / "mine")


def _summary(workdir):
    return json.load(open(os.path.join(workdir, "summary.json")))


def _long_flags(folder, steps=14):
    """Saves at every step, so that a kill at random hits a save often."""
    config = miniature.config(
        folder,
        train__steps=steps,
        train__checkpoint_every=1,
        train__evaluate_every=7,
        runtime__deterministic=True,
    )
    return miniature.flags(config)


def _wait_for_step(process, workdir, step):
    """Waits until a checkpoint of at least `step` is there."""
    index = os.path.join(workdir, "checkpoints", "last", "checkpoint")
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if os.path.exists(index):
            first = open(index).readline()
            digits = first.rpartition("-")[2].strip().strip('"')
            if digits.isdigit() and int(digits) >= step:
                return
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint of step {step}: {process.poll()}")


def test_killed_run_ends_bit_identical(folder, tmp_path):
    flags = _long_flags(folder)
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    done = miniature.run("train", *flags, f"--workdir={whole}")
    assert done.returncode == 0, done.stderr[-3000:]
    draw = random.Random(0)
    # Before and after the first validation.
    for step in (3, 9):
        process = subprocess.Popen(
            **miniature.command("train", *flags, f"--workdir={killed}"),
            stderr=subprocess.DEVNULL,
        )
        _wait_for_step(process, killed, step)
        # Anywhere in a step or in the writing of its checkpoint.
        time.sleep(draw.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    # What a kill in the middle of a write leaves behind.
    last = os.path.join(killed, "checkpoints", "last")
    with open(os.path.join(last, "ckpt-13.data-00000-of-00001"), "wb") as f:
        f.write(b"half")
    with open(os.path.join(killed, "metrics.jsonl"), "a") as file:
        file.write('{"step": 99, "tra')
    done = miniature.run("train", *flags, f"--workdir={killed}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resuming from step" in done.stderr
    assert _summary(killed)["sha256"] == _summary(whole)["sha256"]
    assert _summary(killed)["best_miou"] == _summary(whole)["best_miou"]
    assert _steps(killed) == _steps(whole)


def _steps(workdir):
    path = os.path.join(workdir, "metrics.jsonl")
    return [json.loads(line)["step"] for line in open(path)]


def test_sigterm_saves_and_the_same_command_resumes(folder, tmp_path):
    config = miniature.config(
        folder, train__steps=4000, train__checkpoint_every=4000
    )
    config.train.evaluate_every = 4000
    config.train.report_every = 1
    workdir = str(tmp_path / "run")
    process = subprocess.Popen(
        **miniature.command(
            "train", *miniature.flags(config), f"--workdir={workdir}"
        ),
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = os.path.join(workdir, "metrics.jsonl")
    end = time.monotonic() + 120
    while not os.path.exists(metrics) and time.monotonic() < end:
        time.sleep(0.05)
    process.terminate()
    _, message = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Stopped by SIGTERM at step" in message
    assert "Traceback" not in message
    path = runs.checkpoint_path(workdir, "last")
    assert f"at step {path.rpartition('-')[2]} of 4000" in message


@pytest.mark.parametrize(
    "words, messages",
    [
        (
            ["--config.train.stepz=3"],
            ["Unknown field `config.train.stepz`", "'train.steps'"],
        ),
        (
            ["--config.method.name=cutmix"],
            [f"Available: {', '.join(lookup.names('methods'))}."],
        ),
        (["--config.network.name=fcm"], ["Did you mean 'fcn'"]),
        (["--config.train.steps=many"], ["--config.train.steps"]),
        (
            ["--config.runtime.replicas=2", "--config.train.labeled_batch=3"],
            ["`config.train.labeled_batch` is 3, which 2 replicas"],
        ),
        (
            ["--config.runtime.strategy=multi_worker"],
            ["neither TF_CONFIG nor"],
        ),
    ],
)
def test_wrong_flag_is_answered_in_one_line(folder, tmp_path, words, messages):
    flags = miniature.flags(miniature.config(folder))
    workdir = tmp_path / "run"
    done = miniature.run("train", *flags, *words, f"--workdir={workdir}")
    assert done.returncode == 1
    for message in messages:
        assert message in done.stderr, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert not workdir.exists()


def test_malformed_tf_config(folder, tmp_path):
    flags = miniature.flags(miniature.config(folder))
    done = miniature.run(
        "train",
        *flags,
        "--config.runtime.strategy=multi_worker",
        f"--workdir={tmp_path / 'run'}",
        TF_CONFIG='{"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}',
    )
    assert done.returncode == 1
    assert "TF_CONFIG is malformed" in done.stderr
    assert "Traceback" not in done.stderr
