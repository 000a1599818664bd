# SPDX-License-Identifier: Apache-2.0
"""`launch.evaluate`, `launch.predict` and `launch.export` as a user runs them.

The run itself is a stand-in: what is tested is flags, output and exit code.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests import preloaded

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Arguments: name of the script, then its flags.
DRIVER = """
import runpy
import sys
import types

import numpy as np
from ml_collections import config_dict
from tensorflow import keras

from tfseg import evaluate, runs
from tfseg.datasets import base

config = config_dict.ConfigDict({
    "evaluate": {"window": 0, "overlap": 0.5, "absent": "nan"},
    "data": {"max_pixels": 10000},
})
info = base.Info("toy", ("a", "b"), ((0, 0, 0), (255, 0, 0)))
layer = keras.layers.Conv2D(2, 1)
network = keras.Sequential([keras.Input((None, None, 3)), layer])
example = np.zeros([2, 4, 4, 3], np.uint8), np.zeros([2, 4, 4], np.int32)


def load(workdir, checkpoint, name):
    return types.SimpleNamespace(
        config=config, info=info, network=network, step=5, checkpoint="best-5"
    )


runs.load = load
evaluate.evaluation_examples = lambda run, workdir, split: [example]
sys.argv = sys.argv[1:]
runpy.run_module(f"launch.{sys.argv[0]}", run_name="__main__")
"""


def _launch(name, **flags):
    words = [f"--{flag}={value}" for flag, value in flags.items()]
    return preloaded.run(
        [sys.executable, "-c", DRIVER, name, *words],
        cwd=ROOT,
        env=os.environ,
    )


def test_evaluate(tmp_path):
    done = _launch(
        "evaluate", workdir=tmp_path, scales="0.5,1", window=3, overlap=0.25
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "mIoU" in done.stdout
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["step"] == 5
    assert report["inference"] == {
        "scales": [0.5, 1.0],
        "flip": False,
        "average": "probabilities",
        "window": [3, 3],
        "overlap": 0.25,
    }


def test_predict_with_a_bad_image_exits_with_1_and_a_list(tmp_path):
    image = np.zeros([4, 5, 3], np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(image).save(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.jpg").write_text("text")
    out = tmp_path / "out"
    done = _launch("predict", workdir="r", input=tmp_path / "in", output=out)
    assert done.returncode == 1, done.stderr[-3000:]
    assert "Left out (1):" in done.stdout
    assert "bad.jpg: " in done.stdout
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "good.png",
        "good_confidence.png",
        "good_overlay.png",
    ]


def test_export(tmp_path):
    done = _launch("export", workdir=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "export" / "saved_model.pb").exists()
    assert str(tmp_path / "export") in done.stdout


@pytest.mark.parametrize(
    "name,flags,message",
    [
        ("evaluate", {"scales": "1,x"}, "`--scales` must be numbers"),
        ("predict", {"input": "nowhere", "output": "o"}, "No image matches"),
    ],
)
def test_wrong_input_is_answered_in_one_line(tmp_path, name, flags, message):
    done = _launch(name, workdir=tmp_path, **flags)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["evaluate", "predict", "export"])
def test_help_names_the_flags_without_tensorflow(name):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"launch.{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "--workdir" in done.stdout and "--checkpoint" in done.stdout
    assert ("--window" in done.stdout) == (name != "export")
    assert "tensorflow" not in done.stderr
