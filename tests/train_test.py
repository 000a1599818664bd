# SPDX-License-Identifier: Apache-2.0
import fcntl
import glob
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow import keras

from tests import miniature
from tfseg import evaluate, runs, session, train
from tfseg.networks import base as networks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return miniature.make_folder(tmp_path_factory.mktemp("data") / "mine")


@pytest.fixture(autouse=True)
def _float32():
    yield
    keras.mixed_precision.set_global_policy("float32")


def _config(folder, **overrides):
    """Validates, draws and saves also on the way."""
    return miniature.config(
        folder,
        train__evaluate_every=3,
        train__checkpoint_every=2,
        train__num_pictures=1,
        **overrides,
    )


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """(workdir, summary) of one whole run."""
    workdir = str(tmp_path_factory.mktemp("runs") / "cutmix")
    return workdir, train.train(_config(folder), workdir)


def _events(folder):
    """{tag: [(step, value)]} of all TensorBoard files of a folder."""
    found = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        for event in tf.compat.v1.train.summary_iterator(path):
            for value in event.summary.value:
                tensor = tf.make_ndarray(value.tensor)
                found.setdefault(value.tag, []).append((event.step, tensor))
    return found


def test_workdir_is_complete(finished):
    workdir, summary = finished
    for name in ["config.json", "dataset.json", "split.json", "run.log"]:
        assert os.path.getsize(os.path.join(workdir, name)), name
    stored = json.load(open(os.path.join(workdir, "summary.json")))
    assert stored == summary
    assert summary["steps"] == 6
    assert 0 <= summary["final_miou"] <= summary["best_miou"] <= 1
    assert len(summary["sha256"]) == 64


def test_tensorboard_has_every_promised_tag(finished):
    workdir, summary = finished
    scalars = _events(os.path.join(workdir, "train"))
    for tag in [
        "train/loss",
        "train/loss_sup",
        "train/loss_unsup",
        "train/confident_rate",
        "train/learning_rate",
        "train/ramp",
        "train/images_per_second",
        "train/steps_per_second",
        "train/resident_mib",
        "train/pseudo_share/red disc",
        "train/labeled_share/red disc",
    ]:
        assert [step for step, _ in scalars[tag]] == [2, 4, 6], tag
    assert '"dataset"' in scalars["config"][0][1].item().decode()
    val = _events(os.path.join(workdir, "val"))
    for tag in [
        "val/miou",
        "val_teacher/miou",
        "val_student/miou",
        "val/iou/ground",
        "val/iou/green disc",
    ]:
        assert [step for step, _ in val[tag]] == [3, 6], tag
    np.testing.assert_allclose(
        val["val/miou"][-1][1], summary["final_miou"], rtol=1e-6
    )
    picture = tf.io.decode_png(val["val/pictures"][0][1][2])
    # input | truth | prediction | confidence, 16 pixels each
    assert picture.shape == (16, 64, 3)


def test_metrics_jsonl_matches_tensorboard(finished):
    workdir, _ = finished
    lines = [
        json.loads(line)
        for line in open(os.path.join(workdir, "metrics.jsonl"))
    ]
    scalars = _events(os.path.join(workdir, "train"))
    logged = [line["train/loss"] for line in lines if "train/loss" in line]
    np.testing.assert_allclose(
        logged, [value for _, value in scalars["train/loss"]], rtol=1e-5
    )


def test_learning_rate_follows_the_schedule(finished):
    workdir, _ = finished
    rates = _events(os.path.join(workdir, "train"))["train/learning_rate"]
    # The rate of the last step done, which is one before the count.
    expected = [1e-3 * (1 - (step - 1) / 6) ** 0.9 for step in (2, 4, 6)]
    np.testing.assert_allclose(
        [rate for _, rate in rates], expected, rtol=1e-5, atol=1e-9
    )


def test_loaded_network_is_the_deployed_one(finished):
    workdir, summary = finished
    run = runs.load(workdir, "last")
    assert run.step == 6
    assert session.digest(run.network) == summary["sha256"]
    assert run.info.class_names == ("ground", "red disc", "green disc")


def test_same_command_again_changes_nothing(folder, finished):
    workdir, summary = finished
    again = train.train(_config(folder), workdir)
    assert again == summary


def test_two_runs_with_one_seed_are_identical(folder, finished, tmp_path):
    _, summary = finished
    other = train.train(_config(folder), str(tmp_path / "b"))
    assert other["sha256"] == summary["sha256"]
    config = miniature.config(folder)
    config.seed = 1
    config.split.seed = 0
    third = train.train(config, str(tmp_path / "c"))
    assert third["sha256"] != summary["sha256"]


def test_a_second_process_is_refused(folder, finished):
    workdir, _ = finished
    with open(os.path.join(workdir, "run.log"), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is training"):
            train.train(_config(folder), workdir)


def test_other_config_is_refused_with_the_difference(folder, finished):
    workdir, _ = finished
    config = _config(folder, method__threshold=0.5)
    with pytest.raises(
        ValueError, match="config.method.threshold: 0.97 -> 0.5"
    ):
        train.train(config, workdir)


@pytest.mark.parametrize("name", ["run*", "run?", "run[1]", "run\\1"])
def test_workdir_that_is_a_pattern_is_refused(folder, tmp_path, name):
    """`run?` would remove the checkpoints of `run1`."""
    workdir = str(tmp_path / name / "mine")
    with pytest.raises(ValueError, match="for a pattern.*Fix: ") as error:
        train.train(_config(folder), workdir)
    assert workdir in str(error.value) and not os.listdir(tmp_path)
    # Of a run that was moved there.
    with pytest.raises(ValueError, match="for a pattern"):
        runs.checkpoint_path(workdir, "last")


def test_other_images_are_refused(folder, finished, tmp_path):
    workdir, _ = finished
    split = runs.read_json(os.path.join(workdir, "split.json"))
    extra = folder / "images" / "new.png"
    (folder / "images" / "im00.png").rename(extra)
    (folder / "labels" / "im00.png").rename(folder / "labels" / "new.png")
    try:
        with pytest.raises(ValueError, match=split["digest"]):
            train.train(_config(folder), workdir)
    finally:
        extra.rename(folder / "images" / "im00.png")
        (folder / "labels" / "new.png").rename(folder / "labels" / "im00.png")


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_with_xla(folder, tmp_path, precision):
    config = miniature.config(
        folder, runtime__precision=precision, runtime__xla=True
    )
    summary = train.train(config, str(tmp_path / "run"))
    assert summary["steps"] == 6
    run = runs.load(str(tmp_path / "run"), "last")
    assert session.digest(run.network) == summary["sha256"]


def test_not_finite_stops_and_keeps_the_last_checkpoint(folder, tmp_path):
    config = miniature.config(
        folder,
        "supervised",
        train__report_every=3,
        train__evaluate_every=3,
        train__checkpoint_every=2,
    )
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e38
    workdir = str(tmp_path / "run")
    with pytest.raises(FloatingPointError, match="`loss` is not finite at st"):
        train.train(config, workdir)
    folder = os.path.join(workdir, "checkpoints", "last")
    latest = tf.train.latest_checkpoint(folder)
    if latest:
        for name, _ in tf.train.list_variables(latest):
            if "kernel" in name and "optimizer" not in name:
                assert np.isfinite(tf.train.load_variable(latest, name)).all()


def test_labeled_images_without_others_and_validation(folder, tmp_path):
    """It is the last checkpoint, then, that is deployed."""
    config = miniature.config(folder, "supervised")
    config.split.unlabeled_includes_labeled = False
    config.split.validation_fraction = 0.0
    summary = train.train(config, str(tmp_path / "run"))
    assert summary["steps"] == 6
    assert summary["best_miou"] is None and summary["final_miou"] is None
    run = runs.load(str(tmp_path / "run"))
    assert session.digest(run.network) == summary["sha256"]
    with pytest.raises(ValueError, match="has no validation images"):
        evaluate.evaluation_examples(run, str(tmp_path / "run"), "validation")


def test_resume_of_two_replicas_is_bit_identical(folder, tmp_path):
    """Each replica normalizes by its own batch; a checkpoint has the mean."""
    config = miniature.config(
        folder, runtime__replicas=2, train__checkpoint_every=4
    )
    whole, resumed = str(tmp_path / "whole"), str(tmp_path / "resumed")
    summary = train.train(config, whole)
    shutil.copytree(whole, resumed)
    for path in glob.glob(f"{resumed}/checkpoints/last/ckpt-6.*"):
        os.remove(path)
    again = train.train(config, resumed)
    assert "resuming from step 4" in open(f"{resumed}/run.log").read()
    assert again["sha256"] == summary["sha256"]


def test_photographs_of_any_size_and_mode(tmp_path):
    """JPEG and PNG, gray, RGB, RGBA and palette, also in a sub-folder."""
    folder = miniature.make_folder(tmp_path / "mine")
    draw = np.random.default_rng(0)
    (folder / "images" / "more").mkdir()
    (folder / "labels" / "more").mkdir()
    for i, (mode, suffix) in enumerate(
        [
            ("L", "jpg"),
            ("RGB", "jpg"),
            ("L", "png"),
            ("RGBA", "png"),
            ("P", "png"),
        ]
    ):
        size = (9 + 4 * i, 40 - 5 * i)
        pixels = draw.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        name = f"more/{mode}{i}"
        image = Image.fromarray(pixels).convert(mode)
        image.save(folder / "images" / f"{name}.{suffix}")
        Image.new("L", size, i % 3).save(folder / "labels" / f"{name}.png")
    (folder / "splits").mkdir()
    (folder / "splits" / "val.txt").write_text("more/L0\nmore/P4\nim00\n")
    config = miniature.config(folder, train__num_pictures=1)
    summary = train.train(config, str(tmp_path / "run"))
    assert summary["steps"] == 6 and 0 <= summary["best_miou"] <= 1


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_pretrained_variables_have_a_rate_of_their_own(
    folder, tmp_path, monkeypatch, precision
):
    """A multiplier of 0 holds them still, on two replicas."""
    monkeypatch.setattr(
        networks.Encoder,
        "pretrained_variables",
        property(lambda encoder: encoder.variables),
    )
    workdirs = [str(tmp_path / name) for name in ("still", "moving")]
    encoders, decoders = [], []
    for workdir, multiplier in zip(workdirs, (0.0, 1.0)):
        config = miniature.config(
            folder,
            "supervised",
            runtime__replicas=2,
            runtime__precision=precision,
            optimizer__pretrained_multiplier=multiplier,
            split__validation_fraction=0.0,
        )
        train.train(config, workdir)
        network = runs.load(workdir, "last").network
        encoders.append([v.numpy() for v in network.encoder.trainable_weights])
        decoders.append([v.numpy() for v in network.decoder.trainable_weights])
    keras.utils.set_random_seed(0)
    start = runs.build_network(config, 3)
    for still, moving, first in zip(*encoders, start.encoder.trainable_weights):
        np.testing.assert_array_equal(still, first)
        assert not np.array_equal(moving, first)
    for still, first in zip(decoders[0], start.decoder.trainable_weights):
        assert not np.array_equal(still, first)
