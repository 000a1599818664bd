# SPDX-License-Identifier: Apache-2.0
import os

import numpy as np
import pytest
from PIL import Image

from tfseg.datasets import board, digits

SIZES = {"num_train": 10, "num_validation": 3, "num_test": 2}


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("data") / "board")
    board.prepare(dir=path, **SIZES)
    return path


def _pictures(folder):
    """(gray image, label) of all scenes."""
    for record in board.build(dir=folder).records.values():
        image = np.array(Image.open(record.image).convert("L")).astype(int)
        yield image, np.array(Image.open(record.label))


def test_it_has_classes_of_its_own(folder):
    dataset = board.build(dir=folder)
    assert dataset.info.name == "board"
    assert dataset.info.class_names == ("background", "even", "odd")
    assert {k: len(v) for k, v in dataset.partitions.items()} == {
        "train": 10,
        "validation": 3,
        "test": 2,
    }
    labels = [label for _, label in _pictures(folder)]
    assert set(np.unique(labels)) == {0, 1, 2}
    assert all(label.shape == (64, 64) for label in labels)


def test_label_is_the_parity_of_the_digit():
    ink, target = digits._divide_digits(0)["train"]
    for digit in range(10):
        rng = np.random.default_rng(digit)
        chosen = target == digit
        _, label = board._compose(rng, ink[chosen], target[chosen])
        assert set(np.unique(label)) == {
            0,
            1 if digit in (0, 2, 4, 6, 8) else 2,
        }


def test_strokes_are_light_on_a_dark_board(folder):
    for image, label in _pictures(folder):
        assert image[label == 0].mean() < 90
        assert image[label > 0].mean() > image[label == 0].mean() + 40
        assert 0.05 < (label > 0).mean() < 0.4


def test_style_is_not_that_of_paper(folder, tmp_path):
    """The darkest paper is brighter than the brightest board."""
    digits.prepare(dir=str(tmp_path / "digits"), **SIZES)
    dataset = digits.build(dir=str(tmp_path / "digits"))
    paper = [
        np.median(Image.open(record.image).convert("L"))
        for record in dataset.records.values()
    ]
    boards = [np.median(image) for image, _ in _pictures(folder)]
    assert max(boards) + 30 < min(paper)


def test_same_seed_gives_the_same_bytes(folder, tmp_path):
    again, other = str(tmp_path / "again"), str(tmp_path / "other")
    board.prepare(dir=again, **SIZES)
    board.prepare(dir=other, seed=1, **SIZES)

    def content(path):
        found = []
        for here, _, names in sorted(os.walk(os.path.join(path, "images"))):
            for name in sorted(names):
                with open(os.path.join(here, name), "rb") as file:
                    found.append(file.read())
        return found

    assert content(again) == content(folder)
    assert not set(content(other)) & set(content(folder))


def test_messages_name_the_data_set(folder, tmp_path):
    with pytest.raises(ValueError, match="--dataset=board --dir=data/board"):
        board.build(dir="")
    with pytest.raises(ValueError, match="data set digits"):
        digits.build(dir=folder)
    with pytest.raises(ValueError, match="is not the data set digits"):
        digits.prepare(dir=folder, **SIZES)
    with pytest.raises(ValueError, match="holds board with other settings"):
        board.prepare(dir=folder, seed=3, **SIZES)
    with pytest.raises(ValueError, match="num_test=0"):
        board.prepare(dir=str(tmp_path / "b"), num_test=0)
    with pytest.raises(ValueError, match="--dir=data/board"):
        board.prepare(dir="")
