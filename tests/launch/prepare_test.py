# SPDX-License-Identifier: Apache-2.0
import os

from tests import miniature
from tests.datasets import miniatures
from tfseg.datasets import cityscapes, digits, voc


def test_digits_are_written_once(tmp_path):
    folder = str(tmp_path / "data" / "digits")
    done = miniature.run("prepare", "--dataset=digits", f"--dir={folder}")
    assert done.returncode == 0, done.stderr
    assert f"digits is ready in {folder}" in done.stderr
    dataset = digits.build(dir=folder)
    assert len(dataset.partitions["train"]) == 1200
    assert (
        miniature.run(
            "prepare", "--dataset=digits", f"--dir={folder}"
        ).returncode
        == 0
    )
    other = miniature.run(
        "prepare", "--dataset=digits", f"--dir={folder}", "--seed=1"
    )
    assert other.returncode == 1 and "asked for 1" in other.stderr
    assert "Traceback" not in other.stderr


def test_mistakes_are_named(tmp_path):
    folder = f"--dir={tmp_path / 'd'}"
    for arguments, message in [
        (["--dataset=digit", folder], "Did you mean 'digits'?"),
        (["--dataset=folder", folder], "has nothing to prepare"),
        (["--dataset=digits"], "--dir is missing"),
        (["--dataset=digits", folder, "x"], "Unexpected words: x"),
        (["--dataset=digits:8x8", folder], "digits takes nothing after a col"),
        (["--dataset=digits", folder, "--source=x"], "takes no --source"),
        (["--dataset=isic", folder, "--source=x", "--seed=1"], "no --seed"),
        (["--dataset=isic", folder], "`--source` is empty. Fix: name the fol"),
        (["--dataset=isic", folder, "--source=x"], "Training_Data: not there"),
        (["--dataset=camvid", folder], "camvid` has nothing to prepare"),
        (["--dataset=tfds", folder], "Fix: --dataset=tfds:NAME"),
        (["--records=x"], "give --config=FILE"),
        (
            [
                "--records=x",
                "--config=configs/folder_cutmix.py",
                "--config.data.records=y",
            ],
            "`config.data.records` must be empty: records are made of files",
        ),
    ]:
        done = miniature.run("prepare", *arguments)
        assert done.returncode == 1, arguments
        assert message in done.stderr + done.stdout, done.stderr
        assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_half_of_cityscapes_and_a_second_run(tmp_path):
    source = miniatures.cityscapes(tmp_path / "cityscapes")
    out = tmp_path / "half"
    words = ["--dataset=cityscapes", f"--source={source}", f"--dir={out}"]
    for _ in range(2):
        done = miniature.run("prepare", *words)
        assert done.returncode == 0, done.stderr
        assert f"cityscapes is ready in {out}" in done.stderr
    assert len(cityscapes.build(dir=str(out)).records) == 8


def test_voc_from_sbd(tmp_path):
    root, source = miniatures.voc(tmp_path), miniatures.sbd(tmp_path)
    done = miniature.run(
        "prepare", "--dataset=voc", f"--source={source}", f"--dir={root}"
    )
    assert done.returncode == 0, done.stderr
    assert len(voc.build(dir=str(root)).partitions["train"]) == 6


def test_records_by_command_and_a_run_on_them(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine")
    records = str(tmp_path / "records")
    words = miniature.flags(miniature.config(folder))
    for _ in range(2):
        done = miniature.run("prepare", f"--records={records}", *words)
        assert done.returncode == 0, done.stderr
        assert f"12 examples are in {records}" in done.stderr
    names = sorted(os.listdir(records))
    assert names == ["dataset.json", "examples-00000.tfrecord", "index.npz"]
    done = miniature.run(
        "train",
        *words,
        f"--config.data.records={records}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert done.returncode == 0, done.stderr
