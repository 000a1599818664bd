# SPDX-License-Identifier: Apache-2.0
import json
import os

import pytest
import tensorflow as tf
from tensorflow import keras

from tests import miniature
from tfseg import precision, runs
from tfseg import strategy as strategies
from tfseg import train


@pytest.fixture(autouse=True)
def _float32():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def strategy():
    return strategies.build("mirrored", replicas=1)


@pytest.fixture
def config(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine")
    return miniature.config(
        folder, "supervised", runtime__precision="auto", train__steps=2
    )


def _times(monkeypatch, seconds):
    """The machine may gain by bfloat16, and a step takes so long."""
    monkeypatch.setattr(precision, "candidate", lambda: "mixed_bfloat16")
    monkeypatch.setattr(
        precision,
        "step_seconds",
        lambda config, policies: {name: [seconds[name]] for name in policies},
    )


@pytest.mark.parametrize(
    "seconds, expected", [(0.5, "mixed_bfloat16"), (0.95, "float32")]
)
def test_takes_what_is_faster(
    monkeypatch, config, strategy, tmp_path, seconds, expected
):
    _times(monkeypatch, {"float32": 1.0, "mixed_bfloat16": seconds})
    precision.resolve(config, str(tmp_path), strategy)
    assert config.runtime.precision == expected


def test_nothing_is_timed_where_nothing_can_be_gained(
    monkeypatch, config, strategy, tmp_path
):
    monkeypatch.setattr(precision, "candidate", lambda: None)
    monkeypatch.setattr(precision, "step_seconds", None)
    precision.resolve(config, str(tmp_path), strategy)
    assert config.runtime.precision == "float32"


def test_leaves_other_choices_alone(monkeypatch, config, strategy, tmp_path):
    monkeypatch.setattr(precision, "candidate", None)
    config.runtime.precision = "mixed_float16"
    precision.resolve(config, str(tmp_path), strategy)
    assert config.runtime.precision == "mixed_float16"


def test_steps_are_real_ones_and_leave_no_trace(config):
    policies = ["float32", "mixed_bfloat16"]
    times = precision.step_seconds(config, policies)
    assert list(times) == policies
    assert all(len(t) == 3 and min(t) > 0 for t in times.values())
    assert keras.mixed_precision.global_policy().name == "float32"


def test_a_run_keeps_its_precision(monkeypatch, config, tmp_path, caplog):
    _times(monkeypatch, {"float32": 1.0, "mixed_bfloat16": 0.5})
    workdir = str(tmp_path / "run")
    config.train.checkpoint_every = 1
    train.train(config, workdir)
    with open(os.path.join(workdir, "config.json"), encoding="utf-8") as file:
        kept = json.load(file)["runtime"]["precision"]
    assert kept == "mixed_bfloat16"
    with open(os.path.join(workdir, "run.log"), encoding="utf-8") as file:
        log = file.read()
    assert "1.000 s in float32, 0.500 s in mixed_bfloat16" in log
    assert "precision: mixed_bfloat16" in log
    assert config.runtime.precision == "auto"
    # Slower by now; but a run does not change in its middle.
    _times(monkeypatch, {"float32": 1.0, "mixed_bfloat16": 2.0})
    assert train.train(config, workdir)["steps"] == 2
    assert keras.mixed_precision.global_policy().name == kept
    runs.claim(workdir, config)
    network = runs.load(workdir).network
    assert network.compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("flags\t\t: fpu avx512_bf16 amx_tile\nflags : fpu", "avx512_bf16"),
        ("flags : fpu avx2\n", ""),
        ("processor : 0\n", ""),
    ],
)
def test_cpu_flags(monkeypatch, tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    flags = precision.cpu_flags(str(path))
    assert expected in flags or not expected
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    assert precision.candidate() == ("mixed_bfloat16" if expected else None)


def test_no_flags_where_there_is_no_such_file(tmp_path):
    assert precision.cpu_flags(str(tmp_path / "none")) == set()


@pytest.mark.parametrize(
    "capability, expected",
    [
        ((6, 1), None),
        ((7, 5), "mixed_float16"),
        ((8, 0), "mixed_bfloat16"),
        ((9, 0), "mixed_bfloat16"),
    ],
)
def test_gpus(monkeypatch, capability, expected):
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: ["newer", "older"]
    )
    found = {"newer": (9, 0), "older": capability}
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda gpu: {"compute_capability": found[gpu]},
    )
    assert precision.candidate() == expected
