# SPDX-License-Identifier: Apache-2.0
"""A run on two data sets with other classes, on real files."""

import glob
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorflow import keras

from configs import cross_consistency
from tests import miniature
from tfseg import compare, evaluate, predict, runs, session, train


@pytest.fixture(autouse=True)
def _float32():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three classes; and two, where all discs are one class."""
    root = tmp_path_factory.mktemp("data")
    first = miniature.make_folder(root / "first")
    second = miniature.make_folder(root / "second", labeled=8, size=24, seed=1)
    for path in (second / "labels").iterdir():
        mask = np.minimum(np.asarray(Image.open(path)), 1)
        Image.fromarray(mask.astype(np.uint8)).save(path)
    (second / "classes.txt").write_text("ground\ndisc\n")
    for folder in (first, second):
        (folder / "splits").mkdir()
        (folder / "splits" / "test.txt").write_text("im00\nim01\n")
    return first, second


def _config(folders, **options):
    config = miniature.config(folders[0], "supervised", train__steps=4)
    config.train.unlabeled_batch = 2
    config.train.evaluate_every = 2
    config.train.checkpoint_every = 3
    config.domains = {
        "second": {"dataset": {"name": "folder", "dir": str(folders[1])}}
    }
    config.method = cross_consistency.get("cct_domains")
    config.method.decoders = {"drop_out": 1}
    config.method.ramp_steps = 2
    config.method.update(options)
    return config


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    """(workdir, what `compare` gives) of one whole run."""
    workdir = str(tmp_path_factory.mktemp("runs") / "two")
    config = _config(folders, adversarial_weight=0.02)
    return workdir, compare.train_and_evaluate(config, workdir)


def test_each_domain_is_tested_on_its_own_images(finished, capsys):
    workdir, result = finished
    parts = {
        name: evaluate.evaluate_run(workdir, network=name, split="test")
        for name in ("folder", "second")
    }
    assert [len(part["iou"]) for part in parts.values()] == [3, 2]
    assert parts["second"]["confusion_matrix"].sum() == 2 * 24 * 24
    mean = np.mean([part["miou"] for part in parts.values()])
    assert result["miou"] == pytest.approx(mean)
    together = evaluate.evaluate_run(workdir)
    written = json.load(open(os.path.join(workdir, "evaluation.json")))
    assert written["miou"] == pytest.approx(together["miou"])
    assert set(written["domains"]) == {"folder", "second"}
    assert written["domains"]["second"]["class_names"] == ["ground", "disc"]
    text = evaluate.table(together)
    assert "green disc" in text and text.splitlines()[-1].startswith("mean")
    # It is what the best checkpoint is chosen by.
    best = json.load(open(os.path.join(workdir, "summary.json")))["best_miou"]
    assert together["miou"] == pytest.approx(best)


def test_networks_share_the_encoder_and_are_loaded_by_name(finished, folders):
    workdir, _ = finished
    summary = json.load(open(os.path.join(workdir, "summary.json")))
    first = runs.load(workdir, "last")
    second = runs.load(workdir, "last", "second")
    assert session.digest(first.network) == summary["sha256"]
    assert (first.info.num_classes, second.info.num_classes) == (3, 2)
    assert second.config.dataset.dir == str(folders[1])
    for a, b in zip(
        first.network.encoder.variables, second.network.encoder.variables
    ):
        np.testing.assert_array_equal(a, b)
    look = predict.looker(second)
    label, _ = look(np.zeros([9, 11, 3], np.uint8))
    assert label.shape == (9, 11) and label.max() <= 1
    with pytest.raises(ValueError, match="must be one of folder, second"):
        runs.load(workdir, "last", "third")


def test_resumed_it_ends_alike(finished, folders, tmp_path):
    workdir, _ = finished
    again = tmp_path / "again"
    shutil.copytree(workdir, again)
    for path in glob.glob(f"{again}/checkpoints/last/ckpt-4.*"):
        os.remove(path)
    config = _config(folders, adversarial_weight=0.02)
    before = json.load(open(os.path.join(workdir, "summary.json")))
    after = train.train(config, str(again))
    assert "resuming from step 3" in (again / "run.log").read_text()
    assert after["sha256"] == before["sha256"]


def test_the_learning_rate_follows_the_updates(finished):
    workdir, _ = finished
    lines = [
        json.loads(x) for x in open(os.path.join(workdir, "metrics.jsonl"))
    ]
    (last,) = [x for x in lines if x["step"] == 4 and "train/loss" in x]
    # The rate of the last of eight updates.
    expected = 1e-3 * (1 / 8) ** 0.9
    assert last["train/learning_rate"] == pytest.approx(expected, rel=1e-3)
    assert last["train/loss_adversarial"] > 0
    assert "train/loss_sup/second" in last


def test_other_images_of_a_further_domain_are_refused(
    finished, folders, tmp_path
):
    workdir, _ = finished
    moved = tmp_path / "moved"
    shutil.copytree(workdir, moved)
    path = moved / "split_second.json"
    path.write_text(path.read_text().replace('"digest": "', '"digest": "0'))
    config = _config(folders, adversarial_weight=0.02)
    with pytest.raises(ValueError, match="split_second.json has the ids'"):
        train.train(config, str(moved))


def test_method_and_data_sets_belong_together(folders, tmp_path):
    def refused(config, message):
        with pytest.raises(ValueError, match=message):
            train.train(config, str(tmp_path / "run"))
        assert not (tmp_path / "run").exists()

    config = _config(folders)
    config.method = {"name": "supervised"}
    refused(config, "learns from one data set. Fix: leave `config.domains`")
    config = _config(folders)
    config.domains = {}
    refused(config, "several data sets. Fix: name further ones")
    config.domains = {"folder": {"dataset": config.dataset}}
    refused(config, "`config.domains.folder` must have another name")
