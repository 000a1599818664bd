# SPDX-License-Identifier: Apache-2.0
"""A user's folder to a served network, each step by its script."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests import miniature
from tfseg import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder, workdir) of a run with three test images."""
    folder = miniature.make_folder(tmp_path_factory.mktemp("d") / "mine")
    (folder / "splits").mkdir()
    (folder / "splits" / "test.txt").write_text("im00\nim01\nim02\n")
    workdir = tmp_path_factory.mktemp("runs") / "mine"
    # Twice validated, so that the best is not always the last.
    config = miniature.config(folder, train__evaluate_every=3)
    train.train(config, str(workdir))
    return folder, workdir


def test_evaluate(trained):
    _, workdir = trained
    done = miniature.run(
        "evaluate", f"--workdir={workdir}", "--split=test", "--scales=1,1.5"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "green disc" in done.stdout
    result = json.load(open(workdir / "evaluation.json"))
    assert result["num_images"] == 3 and result["absent"] == "nan"
    matrix = np.array(result["confusion_matrix"])
    assert matrix.sum() == 3 * 16 * 16
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    iou = np.diag(matrix) / np.where(union, union, np.nan)
    np.testing.assert_allclose(np.nanmean(iou), result["miou"], rtol=1e-6)
    assert set(result["iou"]) == {"ground", "red disc", "green disc"}


def test_predict_goes_on_after_a_bad_image(trained, tmp_path):
    folder, workdir = trained
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a", "b"):
        size = (40, 24) if name == "a" else (17, 31)
        Image.new("RGB", size, (200, 30, 30)).save(photos / f"{name}.jpg")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    out = tmp_path / "out"
    words = [f"--workdir={workdir}", f"--input={photos}", f"--output={out}"]
    done = miniature.run("predict", *words)
    assert done.returncode == 1
    assert "broken.jpg" in done.stdout
    with Image.open(out / "a.png") as mask:
        assert mask.mode == "P" and mask.size == (40, 24)
        assert np.asarray(mask).max() <= 2
        assert mask.getpalette()[3:6] == [128, 0, 0]
    assert Image.open(out / "b_overlay.png").size == (17, 31)
    assert Image.open(out / "b_confidence.png").mode == "L"
    again = miniature.run("predict", *words)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr and "Traceback" not in again.stderr


_SERVE = """
import sys
sys.modules["tfseg"] = None
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
encoded = tf.io.read_file(sys.argv[2])
by_bytes = model.signatures["from_encoded"](encoded=encoded[None])
image = tf.io.decode_image(encoded, channels=3)[None]
by_pixels = model.signatures["serving_default"](images=image)
for key in ("class_map", "probabilities", "confidence"):
    np.testing.assert_array_equal(by_bytes[key], by_pixels[key])
np.save(sys.argv[3], by_pixels["probabilities"])
"""


def test_exported_network_is_the_best_one(trained, tmp_path):
    folder, workdir = trained
    done = miniature.run("export", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr[-2000:]
    image = folder / "images" / "im00.png"
    saved = tmp_path / "prob.npy"
    subprocess.run(
        [sys.executable, "-c", _SERVE, workdir / "export", image, saved],
        check=True,
        cwd=tmp_path,
    )
    from tfseg import runs

    pixels = np.asarray(Image.open(image).convert("RGB"), np.float32)
    logits = runs.load(str(workdir)).network(pixels[None]).numpy()
    prob = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.load(saved), prob, atol=1e-5)


def test_demo_writes_its_summary_and_is_quick_the_second_time(tmp_path):
    words = [
        f"--workdir={tmp_path / 'demo'}",
        f"--data={tmp_path / 'digits'}",
        "--steps=2",
        "--labels=20",
    ]
    done = miniature.run("demo", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.load(open(tmp_path / "demo" / "summary.json"))
    assert summary["labels"] == 20 and summary["steps"] == 2
    for name in ("supervised", "semi_supervised"):
        assert 0 <= summary[name]["miou"] <= 1
    # Five rows of 160 pixels and a title; four columns.
    assert Image.open(summary["picture"]).size == (656, 836)
    assert "semi_supervised" in done.stdout and "saved model" in done.stdout
    again = miniature.run("demo", *words)
    assert again.returncode == 0
    assert again.stdout == done.stdout


def test_any_network_of_a_run_and_their_average(trained):
    from tfseg import runs

    _, workdir = trained
    image = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3))
    image = image.astype(np.float32)

    def prob(name):
        logits = runs.load(str(workdir), network=name).network(image).numpy()
        exp = np.exp(logits - logits.max(-1, keepdims=True))
        return exp / exp.sum(-1, keepdims=True)

    teacher, student = prob("teacher"), prob("student")
    assert np.abs(teacher - student).max() > 1e-4
    np.testing.assert_array_equal(prob(""), teacher)
    mean = (teacher + student) / 2
    np.testing.assert_allclose(prob("average"), mean, atol=1e-6)
    with pytest.raises(ValueError, match="teacher, student, average.*'both'"):
        runs.load(str(workdir), network="both")
