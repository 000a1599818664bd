# SPDX-License-Identifier: Apache-2.0
"""A data set that is no longer what a run was trained on."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import cross_supervision
from tests import faults, miniature
from tfseg import evaluate, runs, train


def _config(folder):
    return miniature.config(folder, "supervised", train__steps=1)


@pytest.fixture(scope="module")
def _trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    folder = miniature.make_folder(path / "mine")
    train.train(_config(folder), str(path / "run"))
    return path


@pytest.fixture
def trained(_trained, tmp_path):
    """(folder, workdir) of a run, the folder with its files as they were."""
    folder = _trained / "mine"
    shutil.copytree(folder, tmp_path / "mine")
    yield folder, str(_trained / "run")
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "mine", folder)


def test_changed_classes_are_refused(trained):
    folder, workdir = trained
    (folder / "classes.txt").write_text("ground\ngreen disc\nred disc\n")
    message = "classes of this run have changed(.|\n)*'red disc'(.|\n)*Fix:"
    with pytest.raises(ValueError, match=message):
        train.train(_config(folder), workdir)
    with pytest.raises(ValueError, match=message):
        evaluate.evaluate_run(workdir)
    info = runs.read_json(os.path.join(workdir, "dataset.json"))
    assert info["class_names"] == ["ground", "red disc", "green disc"]


def test_other_colors_of_the_same_classes_are_evaluated(trained):
    folder, workdir = trained
    before = evaluate.evaluate_run(workdir)
    (folder / "classes.txt").write_text(
        "ground 1 2 3\nred disc 4 5 6\ngreen disc 7 8 9\n"
    )
    assert evaluate.evaluate_run(workdir)["miou"] == before["miou"]


def _validated(trained):
    """(id, image, mask) of a validation image."""
    folder, workdir = trained
    split = runs.read_json(os.path.join(workdir, "split.json"))
    name = split["validation"][0]
    (image,) = (folder / "images").glob(f"{name}.*")
    return name, image, folder / "labels" / f"{name}.png"


@pytest.mark.parametrize(
    "size, value, message",
    [((16, 16), 7, "holds ids 7"), ((8, 16), 0, "is 16 x 8")],
)
def test_a_changed_mask_is_named(trained, size, value, message):
    name, _, mask = _validated(trained)
    Image.fromarray(np.full(size, value, np.uint8)).save(mask)
    with pytest.raises(ValueError, match=f"{name}.png: {message}.*Fix:"):
        evaluate.evaluate_run(trained[1])


def test_a_damaged_image_is_named(trained):
    name, image, _ = _validated(trained)
    image.unlink()
    faults.damage(image.with_suffix(".png"), 16)
    with pytest.raises(ValueError, match=f"{name}.png.*damaged.*Fix:"):
        evaluate.evaluate_run(trained[1])


def test_an_image_that_is_gone_is_named(trained):
    name, image, mask = _validated(trained)
    image.unlink()
    mask.unlink()
    message = f"1 validation images are not in the data.*{name}.*Fix:"
    with pytest.raises(ValueError, match=message):
        evaluate.evaluate_run(trained[1])


def test_a_damaged_image_is_named_while_a_teacher_labels_it(trained, tmp_path):
    folder, _ = trained
    faults.damage(folder / "images" / "im06.png", 16)
    config = _config(folder)
    config.split.validation_fraction = 0.0
    config.method = cross_supervision.get("self_training")
    config.train.unlabeled_batch = 2
    with pytest.raises(ValueError, match="im06.png.*damaged.*Fix:"):
        train.train(config, str(tmp_path / "run"))
