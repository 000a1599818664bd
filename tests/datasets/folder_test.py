# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import time

import pytest
from PIL import Image

from tfseg.datasets import base, folder


@pytest.fixture(name="data")
def _data(tmp_path):
    """Four images, two of them with masks; two classes."""
    for name in ("a.jpg", "b.PNG", "deep/c.d.jpeg", "deep/e.png"):
        _write(tmp_path / "images" / name)
    for name in ("a.png", "deep/c.d.png"):
        _write(tmp_path / "labels" / name)
    (tmp_path / "classes.txt").write_text("sky 9 9 9\ntree 1 2 3\n")
    (tmp_path / "splits").mkdir()
    return tmp_path


def _write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2), 1).save(path)


def _build(path):
    return folder.build(dir=str(path))


def test_records_are_sorted_and_unlabeled_have_no_mask(data):
    dataset = _build(data)
    assert list(dataset.records) == ["a", "b", "deep/c.d", "deep/e"]
    images, labels = str(data / "images"), str(data / "labels")
    assert dataset.records["deep/c.d"] == base.Record(
        "deep/c.d", f"{images}/deep/c.d.jpeg", f"{labels}/deep/c.d.png"
    )
    assert dataset.records["b"].label is None
    assert dataset.records["b"].image == f"{images}/b.PNG"
    assert dataset.partitions == {}


def test_classes_give_names_and_palette(data):
    info = _build(data).info
    assert info == base.Info("folder", ("sky", "tree"), ((9, 9, 9), (1, 2, 3)))
    (data / "classes.txt").write_text("sky\ntree\nhouse\n")
    assert _build(data).info.palette == base.voc_palette(3)
    (data / "classes.txt").write_text("sky 224 224 192\ntree 1 2 3\n")
    assert _build(data).info.ignore_color is None


def test_classes_are_counted_without_a_file(data):
    (data / "classes.txt").unlink()
    assert _build(data).info.class_names == ("class_0", "class_1")


def test_classes_of_a_json_file_bring_their_values(data):
    (data / "classes.txt").unlink()
    (data / "classes.json").write_text('{"7": "road", "1": "sky"}')
    dataset = _build(data)
    assert dataset.info.class_names == ("sky", "road")
    assert dataset.info.palette == base.voc_palette(2)
    assert dataset.mask_code.index_labels[7] == 1
    assert dataset.mask_code.index_labels[0] == -1


def test_hidden_and_other_files_are_left_out(data):
    _write(data / "images/._a.jpg")
    _write(data / "images/.ipynb_checkpoints/a.jpg")
    (data / "images/Thumbs.db").write_text("")
    (data / "labels/notes.txt").write_text("")
    assert len(_build(data).records) == 4


def test_links_to_folders_above_end(data):
    os.symlink(data / "images", data / "images/deep/loop")
    assert len(_build(data).records) == 4
    other = data / "elsewhere"
    _write(other / "f.jpg")
    os.symlink(other, data / "images/linked")
    assert "linked/f" in _build(data).records


def test_partitions_are_read(data):
    (data / "splits/train.txt").write_text("deep/e\na.jpg\n")
    (data / "splits/val.txt").write_bytes(b"# held out\r\n\r\ndeep/c.d\r\n")
    (data / "splits/unlabeled.txt").write_text("")
    (data / "splits/1_8.txt").write_text("not read\n")
    assert _build(data).partitions == {
        "train": ("deep/e", "a"),
        "validation": ("deep/c.d",),
        "unlabeled": (),
    }


def _remove(path):
    for file in sorted(pathlib.Path(path).rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: _remove(d), "images: no such folder.*labels/"),
        (lambda d: _remove(d / "images"), "images: no images"),
        (lambda d: _remove(d / "labels"), "labels: no labels"),
        (
            lambda d: (_remove(d / "labels"), (d / "labels").rmdir()),
            "labels: no such folder",
        ),
        (
            lambda d: _write(d / "labels/lonely.png"),
            "1 labels have no image: .*lonely.png",
        ),
        (
            lambda d: _write(d / "labels/b.jpg"),
            "labels/b.jpg: a mask must be a PNG; JPEG is lossy",
        ),
        (
            lambda d: _write(d / "labels/a.PNG"),
            "two masks with the id 'a'",
        ),
        (
            lambda d: _write(d / "images/a.png"),
            "images/a.*images/a.*two images with the id 'a'",
        ),
        (
            lambda d: (d / "splits/train.txt").write_text("deep/cd\n"),
            "train.txt, line 1: .*'deep/cd'. Did you mean 'deep/c.d'",
        ),
        (
            lambda d: (d / "splits/test.txt").write_text("a\na\n"),
            "test.txt, line 2: .*'a' is there twice",
        ),
        (
            lambda d: (d / "splits/test.txt").write_text("../a\n"),
            "test.txt, line 1: .*'..' part",
        ),
        (
            lambda d: (d / "splits/train.txt").write_text("\n"),
            "train.txt: lists no id",
        ),
        (
            lambda d: [
                (d / f"splits/{name}.txt").write_text("a\nb\n")
                for name in ("train", "val")
            ],
            "train.txt and .*val.txt share 2 ids: a, b",
        ),
        (
            lambda d: [
                (d / f"splits/{name}.txt").write_text("a\n")
                for name in ("validation", "val")
            ],
            "val.txt and .*validation.txt are the same list",
        ),
        (
            lambda d: (d / "classes.txt").write_text("sky 1 2\n"),
            "classes.txt, line 1: malformed",
        ),
        (
            lambda d: (d / "classes.json").write_text("[]"),
            "classes.txt and .*classes.json both list the classes",
        ),
    ],
)
def test_bad_folder_is_refused(data, change, message):
    change(data)
    with pytest.raises(ValueError, match=message) as error:
        _build(data)
    assert "Fix: " in str(error.value)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        _build(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`config.dataset.dir` is empty"):
        folder.build(dir="")


def test_many_files_are_quick(data):
    for part in range(5):
        inner = data / f"images/many/{part}"
        inner.mkdir(parents=True)
        for i in range(1000):
            (inner / f"{i}.jpg").touch()
    start = time.perf_counter()
    assert len(_build(data).records) == 5_004
    assert time.perf_counter() - start < 2
