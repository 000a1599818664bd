# SPDX-License-Identifier: Apache-2.0
"""From labels of images to labels of pixels, on real files."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow import keras

from configs import cross_consistency, weak_labels
from tests import miniature
from tfseg import domains, train
from tfseg import weak_labels as labeling
from tfseg.data import order

SETTINGS = {"scales": [1.0, 0.5], "foreground": 0.3, "background": 0.05}
NAMES = [f"im{i:02}" for i in range(12)]
# One disc an image, see `miniature`; of two images nothing is known.
SHOWN = {name: 1 + i % 2 for i, name in enumerate(NAMES) if i not in (7, 8)}


@pytest.fixture(autouse=True)
def _float32():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = miniature.make_folder(tmp_path_factory.mktemp("data") / "mine")
    names = ("ground", "red disc", "green disc")
    lines = [f"{name}\t{names[label]}\n" for name, label in SHOWN.items()]
    (path / "image_labels.txt").write_text("".join(lines))
    return path


def _config(folder, **overrides):
    config = miniature.config(folder, "supervised", **overrides)
    weak_labels.set_classifier(config)
    config.train.unlabeled_batch = 4
    config.split.validation_fraction = 0.34
    return config


def _learning_config(folder):
    config = _config(
        folder,
        train__steps=40,
        train__evaluate_every=40,
        train__checkpoint_every=40,
    )
    config.optimizer.learning_rate = 0.01
    return config


@pytest.fixture(scope="module")
def labeled(folder, tmp_path_factory):
    """Workdir of a finished classifier with its labels."""
    workdir = tmp_path_factory.mktemp("runs") / "cam"
    config = _learning_config(folder)
    output = workdir / "pseudo_labels"
    labeling.write(config, str(workdir), str(output), **SETTINGS)
    return workdir


def _png(path):
    return np.asarray(Image.open(path))


def test_labels_are_of_the_classes_that_an_image_shows(labeled):
    folder = labeled / "pseudo_labels"
    found = {path.stem: _png(path) for path in (folder / "labels").iterdir()}
    split = json.loads((labeled / "split.json").read_text())
    training = {*split["labeled"], *split["unlabeled"]}
    assert set(found) == training & set(SHOWN)
    for name, label in found.items():
        assert label.shape == (16, 16)
        assert set(np.unique(label)) <= {0, 255, SHOWN[name]}
        sure = _png(folder / "confidences" / f"{name}.png") / 255
        np.testing.assert_array_equal(label == SHOWN[name], sure > 0.3)
        np.testing.assert_array_equal(label == 0, sure <= 0.05)
    facts = json.loads((folder / "pseudo_labels.json").read_text())
    assert facts["num_images"] == len(found)
    assert facts["foreground"] == 0.3


def test_the_classifier_learns_from_the_classes_of_the_same_images(folder):
    """Batches have the images and, beside each, what it shows."""
    config = _config(folder)
    (domain,) = domains.open_all(config)
    method = train._method(config)
    streams = domain.batches(method, start=3, part=order.Slice(), folder="")
    assert set(streams) == {"unlabeled"}
    for batch in streams["unlabeled"].take(3):
        classes = batch["classes"].numpy()
        assert classes.dtype == np.float32 and (classes[:, 0] == 1).all()
        for image, row in zip(batch["image"].numpy(), classes[:, 1:]):
            # The brightest channel is that of the disc.
            kind = 1 + int(image[..., 2].max() > image[..., 1].max())
            assert row[kind - 1] == 1 and row.sum() == 1


def test_run_again_it_is_done_and_other_settings_are_refused(folder, labeled):
    config = _learning_config(folder)
    output = labeled / "pseudo_labels"
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*.png")}
    labeling.write(config, str(labeled), str(output), **SETTINGS)
    assert before == {p: p.stat().st_mtime_ns for p in output.rglob("*.png")}
    with pytest.raises(ValueError, match="labels by other settings.*--output"):
        labeling.write(
            config,
            str(labeled),
            str(output),
            **SETTINGS | {"foreground": 0.5},
        )


def test_other_image_labels_are_refused(folder, labeled):
    path = folder / "image_labels.txt"
    before = path.read_text()
    path.write_text(before.replace("red disc", "green disc", 1))
    try:
        with pytest.raises(ValueError, match="image_labels_sha256.*--workdir"):
            labeling.write(
                _learning_config(folder),
                str(labeled),
                str(labeled / "pseudo_labels"),
                **SETTINGS,
            )
    finally:
        path.write_text(before)


def test_labels_by_another_classifier_are_refused(
    folder, labeled, tmp_path, monkeypatch
):
    """Another workdir, the same output."""
    output = labeled / "pseudo_labels"
    before = {p: p.read_bytes() for p in output.rglob("*.*")}
    summary = {"sha256": "another", "seconds": 1.0}
    monkeypatch.setattr(train, "train", lambda config, workdir: summary)
    with pytest.raises(ValueError, match="classifier_sha256.*: 'another'"):
        labeling.write(
            _learning_config(folder), str(tmp_path), str(output), **SETTINGS
        )
    assert before == {p: p.read_bytes() for p in output.rglob("*.*")}


def test_a_method_learns_from_the_labels(folder, labeled, tmp_path):
    config = miniature.config(folder, "supervised")
    config.train.unlabeled_batch = 4
    config.train.steps = 2
    config.method = cross_consistency.get("cct")
    config.method.decoders = {"drop_out": 1}
    config.method.weak_weight = 0.4
    config.method.ramp_steps = 0
    labels = tmp_path / "labels"
    shutil.copytree(labeled / "pseudo_labels", labels)
    config.data.pseudo_labels = str(labels)
    with pytest.raises(ValueError, match="has no labels of [12] of .* images"):
        train.train(config, str(tmp_path / "run"))
    for name in ("im07", "im08"):
        target = labels / "labels" / f"{name}.png"
        target.write_bytes((labels / "labels" / "im09.png").read_bytes())
    train.train(config, str(tmp_path / "run"))
    scalars = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "loss_weak" in scalars


@pytest.mark.parametrize(
    "weight, folder_of_labels, message",
    [
        (0.4, "", "weak_weight` > 0. Fix: name the folder"),
        (0.0, "labels", "no use for `config.data.pseudo_labels`"),
    ],
)
def test_labels_and_who_uses_them_belong_together(
    folder, tmp_path, weight, folder_of_labels, message
):
    config = miniature.config(folder, "supervised")
    config.method = cross_consistency.get("cct")
    config.method.weak_weight = weight
    config.data.pseudo_labels = folder_of_labels
    with pytest.raises(ValueError, match=message):
        train.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_without_labels_of_images_there_is_nothing_to_learn(folder, tmp_path):
    config = _config(folder)
    config.dataset.image_labels = False
    with pytest.raises(ValueError, match="of no image is known which classes"):
        train.train(config, str(tmp_path / "run"))
    with pytest.raises(ValueError, match="must be 'image_classifier'"):
        labeling.write(
            miniature.config(folder), str(tmp_path / "run"), "", **SETTINGS
        )


@pytest.mark.parametrize(
    "word, message",
    [
        ("--background=0.5", "--background must not be above --foreground"),
        ("--scales=1,nan", "--scales must be positive and finite"),
    ],
)
def test_the_command_answers_wrong_settings_at_once(
    folder, tmp_path, word, message
):
    done = miniature.run(
        "pseudo_labels",
        f"--config=configs/folder_cam.py:dir={folder},crop=16,steps=1",
        f"--workdir={tmp_path / 'run'}",
        word,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert tf.io.gfile.glob(str(tmp_path / "run*")) == []
