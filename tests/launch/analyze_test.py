# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from absl.testing import flagsaver

from launch import analyze, config_flag
from tests import miniature
from tfseg import lookup


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return miniature.make_folder(tmp_path_factory.mktemp("data") / "mine")


def _analyze(*words):
    """What `python -m launch.analyze words...` does, in this process."""
    with flagsaver.flagsaver():
        return analyze.main(config_flag.parse(["analyze", *words]))


@pytest.mark.parametrize("name", lookup.names("studies"))
def test_every_study_has_what_the_script_calls(name):
    study = lookup.module("studies", name)
    assert callable(study.text)
    flags = {option.name for option in analyze._OPTIONS}
    assert set(lookup.options(study.run)) <= flags | {"workdir"}


def test_data_set(folder, tmp_path, capsys):
    workdir = tmp_path / "new" / "out"
    code = _analyze(
        "--study=patch_distance",
        f"--workdir={workdir}",
        f"--config=configs/folder_supervised.py:dir={folder}",
        "--patch=5",
        "--triplets=12",
        "--max_images=5",
        "--seed=3",
    )
    assert not code
    result = json.loads((workdir / "patch_distance.json").read_text())
    assert result["patch"] == 5 and result["seed"] == 3
    assert result["triplets"]["anchors"] == 12 and len(result["images"]) == 5
    text = capsys.readouterr().out
    assert "12 triplets" in text
    assert f"Written: {workdir}/patch_distance.json" in text


def test_folder_of_images(folder, tmp_path, capsys):
    words = ["--study=patch_distance", f"--workdir={tmp_path / 'out'}"]
    assert not _analyze(
        *words, f"--images={folder / 'images'}", "--max_images=2"
    )
    # The default patch.
    assert "2 images, patches of 15 x 15" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "heat_maps").iterdir())) == 2


@pytest.mark.parametrize(
    "words, message",
    [
        (["--study=toys"], "Available: .*patch_distance"),
        (
            ["--study=patch_distance", "--steps=3"],
            "--study=patch_distance takes no --steps. It takes: --images, "
            "--config, --seed, --patch, --triplets, --max_images.",
        ),
        (["--study=patch_distance"], "Give one of `images`"),
        (
            ["--study=patch_distance", "--images=x", "--patch=6"],
            "`patch` must be odd",
        ),
    ],
)
def test_mistakes_are_named(words, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        _analyze(f"--workdir={tmp_path / 'out'}", *words)


def test_flags_that_are_not_shared_leave_no_workdir(tmp_path):
    with pytest.raises(ValueError, match="takes no --steps"):
        _analyze(
            "--study=patch_distance", f"--workdir={tmp_path / 'x'}", "--steps=1"
        )
    assert not (tmp_path / "x").exists()


def test_missing_flag_is_one_message():
    done = miniature.run("analyze", "--study=patch_distance")
    assert done.returncode == 1
    assert "--workdir" in done.stderr and "Traceback" not in done.stderr
