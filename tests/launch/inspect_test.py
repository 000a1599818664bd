# SPDX-License-Identifier: Apache-2.0
import json
import os

import pytest

from tests import faults, miniature


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return faults.make_folder(tmp_path_factory.mktemp("data") / "mine")


def test_errors_are_those_of_training(folder, tmp_path):
    out = tmp_path / "out"
    config = f"--config=configs/folder_cutmix.py:dir={folder},crop=16"
    done = miniature.run("inspect", config, f"--out={out}")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("ERROR: ")
    assert "7 errors, 10 warnings, 2 notes in 24 images" in done.stdout
    assert "Traceback" not in done.stderr
    report = json.loads((out / "inspection.json").read_text())
    images = [
        f"{x['file']}: {x['message']}. Fix: {x['fix']}."
        for x in report["findings"]
        if x["severity"] == "error" and "/images/" in x["file"]
    ]
    trained = miniature.run("train", config, f"--workdir={tmp_path / 'run'}")
    assert trained.returncode == 1 and len(images) == 2
    for line in images:
        assert line in done.stdout and line in trained.stderr


def test_warnings_leave_the_exit_code_at_0(tmp_path):
    folder = faults.make_warnings(tmp_path / "with, comma")
    out = tmp_path / "out"
    done = miniature.run("inspect", f"--dir={folder}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("WARNING: ")
    assert f"Written: {out}/inspection.html" in done.stdout
    # --dir is short for the config of the README, whose crop is 256.
    report = json.loads((out / "inspection.json").read_text())
    assert report["sizes"]["crop"] == [256, 256]
    assert report["counts"]["error"] == 0


def test_clean_folder(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine", size=32)
    config = f"--config=configs/folder_cutmix.py:dir={folder}"
    done = miniature.run(
        "inspect",
        config,
        "--config.data.crop=(32, 32)",
        f"--out={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert "0 errors, 0 warnings, 0 notes in 12 images" in done.stdout
    assert "ERROR" not in done.stdout and "WARNING" not in done.stdout


def test_a_folder_that_cannot_be_written_is_named_before_the_work(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine")
    out = folder / "classes.txt" / "out"
    done = miniature.run("inspect", f"--dir={folder}", f"--out={out}")
    assert done.returncode == 1
    assert str(out) in done.stderr and "split:" not in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_all_domains_are_inspected(tmp_path):
    one, two = (
        miniature.make_folder(tmp_path / name) for name in ("one", "two")
    )
    (two / "images" / "im03.png").write_text("broken")
    other = {"dataset": {"name": "folder", "dir": str(two)}}
    config = tmp_path / "config.py"
    config.write_text(
        "from configs import folder_supervised\n"
        "def get_config(arg=''):\n"
        f"    config = folder_supervised.get_config('dir={one}')\n"
        f"    config.domains = {{'other': {other}}}\n"
        "    return config\n"
    )
    out = tmp_path / "out"
    done = miniature.run("inspect", f"--config={config}", f"--out={out}")
    assert done.returncode == 1, done.stderr
    assert "two/images/im03.png: is not an image" in done.stdout
    assert "folder:\n" in done.stdout and "other:\n" in done.stdout
    assert (out / "inspection.json").exists()
    assert (out / "other" / "inspection.json").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "Give one of --dir=PATH and --config=FILE."),
        (
            ["--dir=x", "--config=configs/folder_cutmix.py"],
            "Give one of --dir=PATH and --config=FILE.",
        ),
        (["--dir=nowhere"], "nowhere: no such folder"),
        (["--dir=x", "y"], "Unexpected words: y"),
        (
            ["--config=configs/folder_cutmix.py", "--config.data.krop=3"],
            "Unknown field `config.data.krop`",
        ),
    ],
)
def test_mistakes_are_named(words, message, tmp_path):
    out = tmp_path / "out"
    done = miniature.run("inspect", *words, f"--out={out}")
    assert done.returncode == 1
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not os.path.exists(out)
