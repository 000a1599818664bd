# SPDX-License-Identifier: Apache-2.0
"""The stages of self-training, on real files."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorflow import keras

from configs import cross_supervision
from tests import miniature
from tfseg import (
    evaluate,
    examples,
    predict,
    pseudo_labels,
    runs,
    session,
    train,
)
from tfseg.data import decode

UNLABELED = [f"im{i:02}" for i in range(6, 12)]


@pytest.fixture(autouse=True)
def _float32():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return miniature.make_folder(tmp_path_factory.mktemp("data") / "mine")


def _config(folder, teacher="supervised", **changes):
    config = miniature.config(folder, "supervised", train__steps=2)
    config.train.unlabeled_batch = 4
    config.method = cross_supervision.get("self_training")
    if teacher != "supervised":
        config.method.teacher = cross_supervision.get(teacher)
    config.method.update(changes)
    return config


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """(workdir, summary) of one whole run."""
    workdir = tmp_path_factory.mktemp("runs") / "self_training"
    return workdir, train.train(_config(folder), str(workdir))


def _mask(workdir, name):
    path = workdir / "pseudo_labels" / "labels" / f"{name}.png"
    return np.asarray(Image.open(path))


def test_the_teacher_is_a_run_of_its_own(finished, folder, tmp_path):
    workdir, _ = finished
    config = _config(folder)
    config.method = {"name": "supervised"}
    alone = train.train(config, str(tmp_path / "alone"))
    summary = json.loads((workdir / "teacher" / "summary.json").read_text())
    assert summary["sha256"] == alone["sha256"]
    result = evaluate.evaluate_run(str(workdir / "teacher"))
    assert result["miou"] == pytest.approx(summary["best_miou"])


def test_labels_are_what_the_teacher_predicts(finished, folder):
    workdir, _ = finished
    written = sorted((workdir / "pseudo_labels" / "labels").iterdir())
    assert [path.stem for path in written] == UNLABELED
    run = runs.load(str(workdir / "teacher"))
    look = predict.looker(run)
    for name in UNLABELED:
        (image,) = pathlib.Path(folder, "images").glob(f"{name}.*")
        class_map, confidence = look(
            decode.decode_image(image.read_bytes()).numpy()
        )
        np.testing.assert_array_equal(_mask(workdir, name), class_map)
        path = workdir / "pseudo_labels" / "confidences" / f"{name}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(path)), confidence)


def _interrupt(workdir):
    """As if it had been killed while it labeled."""
    labels = workdir / "pseudo_labels"
    (labels / "pseudo_labels.json").unlink()
    for name in UNLABELED[3:]:
        (labels / "labels" / f"{name}.png").unlink()
    for name in ("checkpoints", "train", "val"):
        shutil.rmtree(workdir / name)
    (workdir / "metrics.jsonl").unlink()


def test_an_interrupted_run_goes_on_where_it_was(
    finished, folder, tmp_path, monkeypatch
):
    """Killed while it labels, and once more before it learns."""
    workdir, summary = finished
    again = tmp_path / "again"
    shutil.copytree(workdir, again)
    _interrupt(again)
    labels = again / "pseudo_labels" / "labels"
    checkpoints = again / "teacher" / "checkpoints" / "last"
    before = {
        path: path.stat().st_mtime_ns
        for path in [*labels.iterdir(), *checkpoints.iterdir()]
    }

    run = session.Session.run

    def kill(self):
        if self.workdir == str(again):
            raise KeyboardInterrupt
        return run(self)

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "run", kill)
        with pytest.raises(KeyboardInterrupt):
            train.train(_config(folder), str(again))
    assert len(list(labels.iterdir())) == len(UNLABELED)
    for path, time in before.items():
        assert path.stat().st_mtime_ns == time, path
    # Complete labels need no teacher.
    shutil.rmtree(again / "teacher")
    result = train.train(_config(folder), str(again))
    assert result["sha256"] == summary["sha256"]
    assert not (again / "teacher").exists()
    for path, time in before.items():
        if path.parent == labels:
            assert path.stat().st_mtime_ns == time, path


def test_time_is_that_of_all_stages(finished):
    workdir, summary = finished
    teacher = json.loads((workdir / "teacher" / "summary.json").read_text())
    labels = json.loads(
        (workdir / "pseudo_labels" / "pseudo_labels.json").read_text()
    )
    assert teacher["seconds"] < labels["seconds"] < summary["seconds"]
    assert labels["num_images"] == len(UNLABELED)
    assert labels["method"] == "supervised"


def test_labels_of_other_images_are_refused(folder, tmp_path):
    dataset = examples.open_dataset(_config(folder))
    (tmp_path / "labels").mkdir()

    def check(size):
        path = tmp_path / "labels" / "im07.png"
        Image.new("L", size).save(path)
        names = ["im06", "im07"]
        pseudo_labels.check(dataset, names, str(tmp_path), max_pixels=256)
        return path

    Image.new("L", (16, 16)).save(tmp_path / "labels" / "im06.png")
    path = check((16, 16))
    for size in ((16, 8), (8, 16)):
        message = f"im07.png: is {size[0]} x {size[1]} pixels .*im07.* 16 x 16"
        with pytest.raises(ValueError, match=message):
            check(size)
    path.unlink()
    with pytest.raises(ValueError, match="no labels of 1 of 2 .*: im07. Fix"):
        pseudo_labels.check(
            dataset, ["im06", "im07"], str(tmp_path), max_pixels=256
        )


def test_any_method_teaches_also_a_self_trained_one(folder, tmp_path):
    """And training reads the labels as they were written: 255 stays 255."""
    threshold, workdir = 0.4, tmp_path / "run"
    config = _config(folder, threshold=threshold)
    config.method.teacher = _config(folder, "cps").method
    config.split.validation_fraction = 0.0
    train.train(config, str(workdir))
    for place, method in [
        (".", "self_training"),
        ("teacher", "self_training"),
        ("teacher/teacher", "cps"),
    ]:
        stored = runs.read_json(str(workdir / place / "config.json"))
        assert stored["method"]["name"] == method
    pool = pseudo_labels.pool(
        examples.open_dataset(config),
        UNLABELED,
        str(workdir / "pseudo_labels"),
    )
    without = 0
    for name, path in zip(UNLABELED, pool.labels):
        label = decode.decode_label(pathlib.Path(path).read_bytes(), pool.code)
        stored = _mask(workdir, name)
        np.testing.assert_array_equal(label, stored)
        confidence = np.asarray(
            Image.open(workdir / "pseudo_labels/confidences" / f"{name}.png")
        )
        np.testing.assert_array_equal(
            stored == 255, confidence < 255 * threshold
        )
        without += (stored == 255).sum()
    assert 0 < without < 6 * 16 * 16


def test_a_mistake_in_any_stage_is_found_before_the_first(folder, tmp_path):
    workdir = tmp_path / "run"

    def refused(config, message):
        with pytest.raises(ValueError, match=message):
            train.train(config, str(workdir))
        assert not (workdir / "teacher").exists()

    refused(_config(folder, threshold=2.0), "`config.method.threshold`")
    config = _config(folder)
    config.method.teacher = {"name": "supervizedd"}
    refused(config, "Unknown name in `methods`: 'supervizedd'")
    config.method.teacher = {}
    refused(config, "needs a teacher. Fix: set `config.method.teacher`")
    config = _config(folder, teacher="cps")
    del config.method.teacher["background"]
    refused(config, "`config.method.teacher.background` is missing")
    config = _config(folder, teacher="cps")
    config.method.teacher.unsup_weight = -1.0
    with pytest.raises(
        ValueError, match="`config.method.teacher.unsup_weight`"
    ):
        train.train(config, str(tmp_path / "other"))
    config = _config(folder)
    config.data.records = str(tmp_path)
    refused(config, "not from records. Fix: leave `config.data.records`")


def test_images_that_all_have_labels_are_refused(tmp_path):
    folder = miniature.make_folder(tmp_path / "all", unlabeled=0)
    with pytest.raises(ValueError, match="there are no unlabeled images"):
        train.train(_config(folder), str(tmp_path / "run"))
