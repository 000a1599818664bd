# SPDX-License-Identifier: Apache-2.0
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.datasets import miniatures
from tfseg.datasets import base, voc


@pytest.fixture(name="root")
def _root(tmp_path):
    return miniatures.voc(tmp_path)


@pytest.fixture(name="source")
def _source(tmp_path):
    return miniatures.sbd(tmp_path)


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_names_and_colors_are_the_published_ones():
    assert len(voc.CLASS_NAMES) == 21
    assert voc.CLASS_NAMES[0] == "background"
    assert list(voc.CLASS_NAMES[1:]) == sorted(voc.CLASS_NAMES[1:])
    assert (voc.CLASS_NAMES[15], voc.CLASS_NAMES[20]) == ("person", "tvmonitor")
    info = base.Info("voc", voc.CLASS_NAMES, base.voc_palette(21))
    assert info.palette[15] == (192, 128, 128)
    assert info.palette[20] == (0, 64, 128)
    assert info.mask_code().colors[-1] == (224, 224, 192)
    assert info.mask_code().color_labels[-1] == 255


def test_standard_list_in_its_order(root):
    lists = root / "ImageSets" / "Segmentation"
    miniatures.lines(lists / "train.txt", reversed(miniatures.VOC_TRAIN))
    for dir in (root, root.parent, root.parent.parent):
        dataset = voc.build(dir=str(dir), train="standard")
        assert dataset.partitions == {
            "train": tuple(reversed(miniatures.VOC_TRAIN)),
            "validation": miniatures.VOC_VALIDATION,
        }
    record = dataset.records["2008_000008"]
    assert record.image == f"{root}/JPEGImages/2008_000008.jpg"
    assert record.label == f"{root}/SegmentationClass/2008_000008.png"
    assert record.classes is None


def test_conversion_prefers_the_masks_of_voc(root, source):
    voc.prepare(dir=str(root), source=str(source))
    out = _files(root / "SegmentationClassAug")
    own = _files(root / "SegmentationClass")
    assert set(out) == {
        *own,
        *(f"2008_00000{i}.png" for i in (2, 3, 4)),
        "prepared.json",
    }
    assert all(out[name] == contents for name, contents in own.items())
    with Image.open(root / "SegmentationClassAug/2008_000003.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
        disc = miniatures.disc("2008_000003")
        np.testing.assert_array_equal(np.array(mask), disc * 7)


def test_conversion_is_resumed_with_the_same_bytes(root, source, monkeypatch):
    voc.prepare(dir=str(root), source=str(source))
    folder = root / "SegmentationClassAug"
    before = _files(folder)
    voc.prepare(dir=str(root), source=str(source))
    assert _files(folder) == before
    (folder / "2008_000002.png").unlink()

    def interrupt(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(voc.sbd, "read", interrupt)
    with pytest.raises(RuntimeError):
        voc.prepare(dir=str(root), source=str(source))
    with pytest.raises(ValueError, match="interrupted.*--dataset=voc"):
        voc.build(dir=str(root))
    monkeypatch.undo()
    voc.prepare(dir=str(root), source=str(source))
    assert _files(folder) == before
    assert len(voc.build(dir=str(root)).partitions["train"]) == 6


def test_augmented_list_is_sorted_and_without_validation(root, source):
    voc.prepare(dir=str(root), source=str(source))
    dataset = voc.build(dir=str(root))
    assert dataset.partitions["train"] == (
        "2007_000032",
        "2007_000039",
        "2008_000002",
        "2008_000003",
        "2008_000004",
        "2008_000008",
    )
    label = dataset.records["2007_000033"].label
    assert label.endswith("SegmentationClass/2007_000033.png")


@pytest.mark.parametrize("line", ["{0}", "/JPEGImages/{0}.jpg /Aug/{0}.png"])
def test_ready_folder_and_list_are_used_as_they_are(root, line):
    folder = root / "SegmentationClassAug"
    for name in ("2008_000004", "2007_000032", "2007_000033"):
        miniatures.save(folder / f"{name}.png", np.zeros([16, 16], np.uint8))
    dataset = voc.build(dir=str(root))
    # By the rule: VOC's train is in it though the folder lacks two of it.
    assert len(dataset.partitions["train"]) == 4
    ids = ["2008_000004", "2007_000032"]
    path = root / "ImageSets" / "SegmentationAug" / "train_aug.txt"
    miniatures.lines(path, [line.format(name) for name in ids])
    dataset = voc.build(dir=str(root))
    assert dataset.partitions["train"] == tuple(ids)
    assert dataset.records["2007_000032"].label == str(
        folder / "2007_000032.png"
    )
    miniatures.lines(path, ["2007_000033"])
    with pytest.raises(ValueError, match="train_aug.txt and VOC val share 1"):
        voc.build(dir=str(root))


def test_image_labels_are_those_of_the_objects(root):
    folder = root / "Annotations"
    objects = ["tvmonitor", "cat", "cat", "person"]
    miniatures.write_xml(folder / "2007_000032.xml", objects)
    miniatures.write_xml(folder / "2007_000039.xml", [])
    (folder / "2008_000008.xml").unlink()

    def classes(train):
        options = {"train": train, "image_labels": True}
        records = voc.build(dir=str(root), **options).records
        return {name: record.classes for name, record in records.items()}

    assert classes("standard") == {
        "2007_000032": (8, 15, 20),
        "2007_000039": None,
        "2008_000008": None,
        "2007_000033": None,
        "2007_000042": None,
    }
    (folder / "2007_000032.xml").write_text("<annotation><object>")
    with pytest.raises(ValueError, match="2007_000032.xml: malformed XML"):
        classes("standard")
    miniatures.write_xml(folder / "2007_000032.xml", ["zebra"])
    with pytest.raises(ValueError, match="does not have: zebra"):
        classes("standard")


def test_missing_files_are_counted_in_one_warning(root, caplog):
    (root / "JPEGImages/2007_000039.jpg").unlink()
    (root / "SegmentationClass/2008_000008.png").unlink()
    (root / "SegmentationClass/2007_000042.png").unlink()
    dataset = voc.build(dir=str(root), train="standard")
    (record,) = caplog.records
    message = record.getMessage()
    assert "train has 2 of 1,464 images - no image of 1 ids" in message
    assert "1 ids: 2007_000039 - no mask, so unlabeled: 1 ids" in message
    assert "validation has 1 of 1,449 images" in message
    assert "left out: 1 ids: 2007_000042" in message
    assert dataset.partitions["validation"] == ("2007_000033",)
    assert dataset.records["2008_000008"].label is None
    assert "2007_000042" not in dataset.records


@pytest.mark.parametrize(
    "change, options, message",
    [
        (
            lambda root: shutil.rmtree(root / "JPEGImages"),
            {},
            "JPEGImages: not there; .*VOC2012 holds Annotations, ImageSets, "
            "SegmentationClass. Fix: .*the folder VOC2012",
        ),
        (
            lambda root: shutil.rmtree(root / "SegmentationClass"),
            {},
            "SegmentationClass: not there",
        ),
        (
            lambda root: (root / "ImageSets/Segmentation/val.txt").unlink(),
            {},
            "val.txt: not there; .*Segmentation holds train.txt",
        ),
        (
            lambda root: miniatures.lines(
                root / "ImageSets/Segmentation/train.txt", ["a", "b", "a"]
            ),
            {},
            "train.txt: ids that are there twice: a",
        ),
        (
            lambda root: miniatures.lines(
                root / "ImageSets/Segmentation/train.txt", ["a", "b"]
            ),
            {"train": "standard"},
            "none of the 2 images of the train list is there, a, b",
        ),
        (
            lambda root: None,
            {},
            "SegmentationClassAug: no such folder.*launch.prepare "
            "--dataset=voc.*train=standard",
        ),
        (
            lambda root: None,
            {"train": "all"},
            "`config.dataset.train` must be one of standard, augmented. "
            "Received: 'all'",
        ),
    ],
)
def test_what_is_wrong_is_named(root, change, options, message):
    change(root)
    with pytest.raises(ValueError, match=message) as error:
        voc.build(dir=str(root), **options)
    assert "Fix: " in str(error.value) or "must be" in str(error.value)


def test_conversion_refuses_what_is_incomplete(root, source):
    cls = source / "dataset" / "cls"
    with pytest.raises(ValueError, match="`--source` is empty"):
        voc.prepare(dir=str(root), source="")
    with pytest.raises(ValueError, match="`--dir` is empty"):
        voc.prepare(dir="", source=str(source))
    with pytest.raises(ValueError, match="cls: not there; .*VOC2012 holds"):
        voc.prepare(dir=str(root), source=str(root))
    os.rename(cls / "2008_000003.mat", cls / "hidden")
    with pytest.raises(ValueError, match="1 of the 5 files.*: 2008_000003"):
        voc.prepare(dir=str(root), source=str(source))
    os.rename(cls / "hidden", cls / "2008_000003.mat")
    mask = root / "SegmentationClass" / "2007_000042.png"
    os.rename(mask, f"{mask}.old")
    with pytest.raises(ValueError, match="1 of VOC's own masks.*2007_000042"):
        voc.prepare(dir=str(root), source=str(source))
    os.rename(f"{mask}.old", mask)
    assert not (root / "SegmentationClassAug").exists()
    (root / "SegmentationClassAug").mkdir()
    (root / "SegmentationClassAug/x.png").write_text("")
    with pytest.raises(ValueError, match="was not written by launch.prepare"):
        voc.prepare(dir=str(root), source=str(source))


def test_damaged_mat_files_are_named_and_the_others_written(root, source):
    from scipy import io

    cls = source / "dataset" / "cls"
    data = (cls / "2008_000002.mat").read_bytes()
    (cls / "2008_000002.mat").write_bytes(data[: len(data) // 2])
    label = np.full([2, 2], 21, np.uint8)
    content = {"GTcls": {"Segmentation": label}}
    io.savemat(cls / "2008_000003.mat", content)
    io.savemat(cls / "2008_000004.mat", {"other": 1})
    with pytest.raises(ValueError) as error:
        voc.prepare(dir=str(root), source=str(source))
    message = str(error.value)
    assert "3 of 8 masks could not be converted" in message
    assert "2008_000002.mat: cannot be read as a mask of SBD" in message
    assert "2008_000003.mat: holds label 21 outside 0..20" in message
    assert "2008_000004.mat: cannot be read as a mask of SBD" in message
    assert "Fix: " in message
    assert len(list((root / "SegmentationClassAug").glob("*.png"))) == 5


def test_other_images_are_unlabeled_and_those_of_the_test_stay_out(root):
    def build(**options):
        return voc.build(dir=str(root), train="standard", **options)

    plain = build()
    images = {p.stem for p in (root / "JPEGImages").glob("*.jpg")}
    others = sorted(images - set(plain.records))
    assert len(others) >= 2
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text(others[0])
    dataset = build(extra=True)
    assert sorted(set(dataset.records) - set(plain.records)) == others[1:]
    assert dataset.records[others[1]].label is None
    assert dataset.partitions["train"][-1] == others[-1]
    assert dataset.partitions["validation"] == plain.partitions["validation"]
