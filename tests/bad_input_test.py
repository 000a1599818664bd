# SPDX-License-Identifier: Apache-2.0
"""Bad input is refused before training, with the file, the value, the fix."""

import os
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from ml_collections import config_dict
from PIL import Image

from tests import faults, miniature
from tfseg import evaluate, runs, train


@pytest.fixture
def folder(tmp_path):
    return miniature.make_folder(tmp_path / "mine")


def _refused(folder, tmp_path, *messages, method="cutmix", **overrides):
    """Training must fail with all the messages and train nothing."""
    workdir = tmp_path / "run"
    config = miniature.config(folder, method, **overrides)
    with pytest.raises(ValueError) as error:
        train.train(config, str(workdir))
    for message in messages:
        assert message in str(error.value)
    assert not (workdir / "checkpoints").exists()
    assert not (workdir / "metrics.jsonl").exists()


def test_missing_folder(tmp_path):
    _refused(tmp_path / "nowhere", tmp_path, "nowhere", "no such folder")


def test_no_images(folder, tmp_path):
    shutil.rmtree(folder / "images")
    (folder / "images").mkdir()
    _refused(folder, tmp_path, "images")


def test_no_labels(folder, tmp_path):
    shutil.rmtree(folder / "labels")
    _refused(folder, tmp_path, "labels")


def test_label_of_another_size(folder, tmp_path):
    path = folder / "labels" / "im02.png"
    Image.open(path).resize((8, 16)).save(path)
    _refused(folder, tmp_path, "im02.png", "8 x 16", "16 x 16", "Fix:")


def test_ids_outside_the_classes(folder, tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[0, :3], mask[1, :2] = 21, 37
    Image.fromarray(mask).save(folder / "labels" / "im01.png")
    _refused(folder, tmp_path, "im01.png", "21, 37", "0..2", "Fix:")


@pytest.mark.parametrize("name", ["images/im01.jpg", "images/im00.png"])
def test_truncated_image(folder, tmp_path, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    _refused(folder, tmp_path, name, "Fix:")


def test_truncated_mask(folder, tmp_path):
    path = folder / "labels" / "im03.png"
    path.write_bytes(path.read_bytes()[:-40])
    _refused(folder, tmp_path, "im03.png", "truncated", "Fix:")


def test_file_that_is_no_image(folder, tmp_path):
    (folder / "images" / "im04.jpg").write_text("not an image")
    _refused(folder, tmp_path, "im04.jpg", "not an image", "Fix:")


def test_rgb_mask_with_unknown_colors(folder, tmp_path):
    mask = np.zeros((16, 16, 3), np.uint8)
    mask[:4] = (1, 2, 3)
    Image.fromarray(mask).save(folder / "labels" / "im05.png")
    _refused(folder, tmp_path, "im05.png", "(1, 2, 3)", "classes.txt")


def test_huge_image_is_refused_by_its_header(folder, tmp_path):
    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    (folder / "images" / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    _refused(folder, tmp_path, "huge.png", "30000 x 30000", "data.max_pixels")


@pytest.mark.parametrize(
    "lists, messages",
    [
        ({"train": "im00\nim77\n"}, ["im77"]),
        ({"train": "im00\nim01\nim00\n"}, ["im00"]),
        ({"train": "im00\nim01\n", "val": "im01\nim02\n"}, ["im01"]),
        ({"val": "../../etc/passwd\n"}, ["../../etc/passwd"]),
        ({"val": "/etc/passwd\n"}, ["/etc/passwd"]),
    ],
)
def test_bad_split(folder, tmp_path, lists, messages):
    (folder / "splits").mkdir()
    for name, text in lists.items():
        (folder / "splits" / f"{name}.txt").write_text(text)
    _refused(folder, tmp_path, "splits", *messages)


def test_more_labels_than_there_are(folder, tmp_path):
    _refused(folder, tmp_path, "num_labeled=50", split__num_labeled=50)


def test_batch_that_replicas_cannot_share(folder, tmp_path):
    _refused(
        folder,
        tmp_path,
        "`config.train.labeled_batch` is 3, which 2 replicas",
        train__labeled_batch=3,
        runtime__replicas=2,
    )


def test_odd_unlabeled_batch_for_pairs(folder, tmp_path):
    _refused(folder, tmp_path, "unlabeled_batch", train__unlabeled_batch=3)


def test_no_unlabeled_images(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine", unlabeled=0)
    _refused(
        folder,
        tmp_path,
        "no unlabeled images",
        split__unlabeled_includes_labeled=False,
    )


@pytest.mark.parametrize("name", ["method", "network", "dataset"])
def test_unknown_name_lists_the_choices(folder, tmp_path, name):
    config = miniature.config(folder)
    config[name].name = "nonsense"
    with pytest.raises(ValueError, match="'nonsense'.*Available: "):
        train.train(config, str(tmp_path / "run"))


def test_workdir_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--workdir.*not writable"):
        train.train(miniature.config(folder), str(tmp_path / "file" / "run"))


def test_image_that_breaks_during_training_is_named(folder, tmp_path):
    faults.damage(folder / "images" / "im09.png", 64)
    config = miniature.config(folder, split__validation_fraction=0.0)
    config.train.steps = 20
    with pytest.raises(ValueError, match="im09.png.*damaged.*Fix:"):
        train.train(config, str(tmp_path / "run"))


def test_damaged_validation_image_is_named(folder, tmp_path):
    faults.damage(folder / "images" / "im03.png", 64)
    label = Image.fromarray(np.zeros((64, 64), np.uint8))
    label.save(folder / "labels" / "im03.png")
    (folder / "splits").mkdir()
    (folder / "splits" / "val.txt").write_text("im03\n")
    with pytest.raises(ValueError, match="im03.png.*damaged.*Fix:"):
        config = miniature.config(folder, "supervised", train__steps=1)
        train.train(config, str(tmp_path / "run"))


def test_mistake_in_the_first_config_leaves_the_workdir_usable(
    folder, tmp_path
):
    _refused(tmp_path / "typo", tmp_path, "no such folder")
    _refused(folder, tmp_path, "`config.method.loss`", method__loss="foo")
    (folder / "splits").mkdir()
    (folder / "splits" / "test.txt").write_text("im08\nim09\n")
    workdir = str(tmp_path / "run")
    config = miniature.config(folder, "supervised", train__steps=1)
    config.split.validation_fraction = 0.0
    assert train.train(config, workdir)["steps"] == 1
    # And a test list without masks is named when evaluated.
    with pytest.raises(ValueError, match="2 test images have no mask.*im08"):
        evaluate.evaluate_run(workdir, split="test")


@pytest.mark.parametrize(
    "option, value",
    [
        ("loss", "foo"),
        ("ramp", "foo"),
        ("ramp_steps", -5),
        ("unsup_weight", -1.0),
        ("boxes__proportion_range", (2, 3)),
        ("boxes__num_boxes", 0),
        ("confidence", "none"),
        ("threshold", 1.5),
    ],
)
def test_wrong_method_option_is_named(folder, tmp_path, option, value):
    overrides = {f"method__{option}": value}
    name = option.replace("__", ".")
    _refused(folder, tmp_path, f"`config.method.{name}` must", **overrides)


def test_partner_on_another_replica_is_refused(folder, tmp_path):
    _refused(
        folder,
        tmp_path,
        "`config.train.unlabeled_batch` is 2",
        "multiple of 4",
        train__unlabeled_batch=2,
        runtime__replicas=2,
    )


def test_xla_with_replicas_on_the_cpu(folder, tmp_path):
    _refused(
        folder,
        tmp_path,
        "`config.runtime.xla`",
        runtime__xla=True,
        runtime__replicas=2,
    )


def test_file_name_that_is_not_utf8(folder, tmp_path):
    old = os.fsencode(folder / "images" / "im09.png")
    os.rename(old, os.fsencode(folder / "images") + b"/\xff9.png")
    _refused(folder, tmp_path, "not UTF-8", "Fix:")


_SMALL_DISK = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
sys.argv = ["launch.train", *sys.argv[1:]]
runpy.run_module("launch.train", run_name="__main__")
"""


def test_full_disk_while_saving_loses_nothing(folder, tmp_path):
    """No file may grow beyond 300 kB; a checkpoint needs more."""
    workdir = tmp_path / "run"
    command = miniature.command("train")
    done = subprocess.run(
        [
            *(sys.executable, "-c", _SMALL_DISK),
            "--config=configs/folder_supervised.py:"
            f"dir={folder},crop=16,steps=3",
            f"--workdir={workdir}",
            "--config.network.width=24",
            "--config.train.labeled_batch=2",
            "--config.train.checkpoint_every=2",
        ],
        cwd=command["cwd"],
        env=command["env"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Checkpoint of step 2 could not be written to" in done.stderr
    assert "Free some space and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (workdir / "summary.json").exists()
    config = config_dict.ConfigDict(
        runs.read_json(str(workdir / "config.json"))
    )
    assert train.train(config, str(workdir))["steps"] == 3
    assert os.path.exists(workdir / "summary.json")
