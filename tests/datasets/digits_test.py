# SPDX-License-Identifier: Apache-2.0
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from tfseg.datasets import digits

SIZES = {"num_train": 12, "num_validation": 4, "num_test": 3}


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("data") / "digits")
    digits.prepare(dir=path, **SIZES)
    return path


def _files(path):
    found = {}
    for here, _, names in os.walk(path):
        for name in names:
            full = os.path.join(here, name)
            with open(full, "rb") as file:
                found[os.path.relpath(full, path)] = file.read()
    return found


def test_layout_is_that_of_a_folder(folder):
    dataset = digits.build(dir=folder)
    assert dataset.info.name == "digits"
    assert dataset.info.class_names == ("background", *"0123456789")
    assert {k: len(v) for k, v in dataset.partitions.items()} == {
        "train": 12,
        "validation": 4,
        "test": 3,
    }
    assert len(dataset.records) == 19
    for record in dataset.records.values():
        image, label = Image.open(record.image), Image.open(record.label)
        assert (image.format, image.mode, image.size) == (
            "JPEG",
            "RGB",
            (64, 64),
        )
        assert (label.format, label.mode, label.size) == (
            "PNG",
            "P",
            (64, 64),
        )
        colors = np.reshape(label.getpalette()[:33], [11, 3])
        np.testing.assert_array_equal(colors, dataset.info.palette)


def test_labels_are_where_the_ink_is(folder):
    counts = []
    for record in digits.build(dir=folder).records.values():
        label = np.array(Image.open(record.label))
        image = np.array(Image.open(record.image).convert("L")).astype(int)
        assert label.max() <= 10
        counts.append(len(np.unique(label)) - 1)
        assert 0.03 < (label > 0).mean() < 0.4
        assert image[label > 0].mean() < image[label == 0].mean() - 15
    assert 1 <= min(counts) and max(counts) <= 4


def test_label_is_the_digit_plus_one():
    ink, target = digits._divide_digits(0)["train"]
    for digit in (0, 7, 9):
        rng = np.random.default_rng(digit)
        chosen = target == digit
        _, label = digits._compose(rng, ink[chosen], target[chosen])
        assert set(np.unique(label)) == {0, digit + 1}


def test_same_seed_gives_the_same_bytes(folder, tmp_path):
    again = str(tmp_path / "again")
    digits.prepare(dir=again, **SIZES)
    assert _files(again) == _files(folder)
    other = str(tmp_path / "other")
    digits.prepare(dir=other, seed=1, **SIZES)
    images = [name for name in _files(folder) if name.endswith(".jpg")]
    assert all(_files(other)[n] != _files(folder)[n] for n in images)


def test_more_scenes_leave_the_first_as_they_are(folder, tmp_path):
    digits.prepare(dir=str(tmp_path / "d"), **{**SIZES, "num_train": 14})
    larger = _files(tmp_path / "d")
    for name, content in _files(folder).items():
        if name.startswith(("images", "labels")):
            assert larger[name] == content


def test_parts_use_different_digits():
    parts = digits._divide_digits(0)
    rows = [{ink.tobytes() for ink in part[0]} for part in parts.values()]
    assert sum(len(part[1]) for part in parts.values()) == 1797
    for i, one in enumerate(rows):
        for other in rows[i + 1 :]:
            assert not one & other
    assert all(len(set(part[1])) == 10 for part in parts.values())


def test_complete_folder_is_left_as_it_is(folder):
    before = os.stat(folder).st_mtime_ns
    digits.prepare(dir=folder, **SIZES)
    assert os.stat(folder).st_mtime_ns == before
    assert os.listdir(os.path.dirname(folder)) == ["digits"]


def test_other_settings_are_named(folder):
    with pytest.raises(ValueError) as error:
        digits.prepare(dir=folder, seed=5, **{**SIZES, "num_test": 9})
    message = str(error.value)
    assert "seed is 0, asked for 5; num_test is 3, asked for 9" in message
    assert "num_train" not in message and "Fix: " in message


def test_strange_folder_is_refused_and_empty_one_taken(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is not the data set digits"):
        digits.prepare(dir=str(tmp_path), **SIZES)
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(ValueError, match="is not the data set digits"):
        digits.prepare(dir=str(tmp_path / "file"), **SIZES)
    (tmp_path / "empty").mkdir()
    digits.prepare(dir=str(tmp_path / "empty"), **SIZES)
    assert len(digits.build(dir=str(tmp_path / "empty")).records) == 19


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "_save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        digits.prepare(dir=str(tmp_path / "digits"), **SIZES)
    assert os.listdir(tmp_path) == []


def test_faster_process_wins(tmp_path, monkeypatch):
    path = str(tmp_path / "digits")

    def write(scenes, partial, settings):
        os.makedirs(path)
        with open(os.path.join(path, scenes.stamp), "w") as file:
            json.dump(settings, file)
        open(os.path.join(partial, "x"), "w").close()

    monkeypatch.setattr(digits, "_write", write)
    digits.prepare(dir=path, **SIZES)
    assert os.listdir(tmp_path) == ["digits"]
    assert os.listdir(path) == ["digits.json"]


def test_missing_data_set_and_library_say_the_command(tmp_path, monkeypatch):
    path = str(tmp_path / "none")
    with pytest.raises(ValueError, match="launch.prepare --dataset=digits --"):
        digits.build(dir=path)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r"pip install -e .\[demo\]"):
        digits.prepare(dir=path, **SIZES)
    assert os.listdir(tmp_path) == []


def test_bad_numbers_are_refused(tmp_path):
    for name, value in (("seed", -1), ("num_train", 0)):
        with pytest.raises(ValueError, match=f"{name}={value}"):
            digits.prepare(dir=str(tmp_path / "d"), **{name: value})


def test_image_labels_are_the_classes_of_the_masks(folder):
    plain = digits.build(dir=folder)
    dataset = digits.build(dir=folder, image_labels=True)
    assert dataset.partitions == plain.partitions
    for name, record in dataset.records.items():
        if name not in dataset.partitions["train"]:
            assert record.classes is None
            continue
        label = np.asarray(Image.open(record.label))
        assert set(record.classes) == set(np.unique(label)) - {0}
