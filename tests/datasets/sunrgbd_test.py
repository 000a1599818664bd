# SPDX-License-Identifier: Apache-2.0
import os
import shutil

import pytest

from tests.datasets import miniatures
from tfseg.datasets import sunrgbd


def test_names_and_values(tmp_path):
    dataset = sunrgbd.build(dir=str(miniatures.sunrgbd(tmp_path)))
    names = dataset.info.class_names
    assert len(names) == 37
    assert (names[0], names[23], names[36]) == ("wall", "fridge", "bag")
    table = dataset.mask_code.index_labels
    assert table[0] == table[255] == 255
    assert table[1:38] == tuple(range(37))
    assert set(table[38:255]) == {-1}


def test_training_image_k_has_the_label_5050_plus_k(tmp_path):
    root = miniatures.sunrgbd(tmp_path)
    dataset = sunrgbd.build(dir=str(root))
    record = dataset.records["img-005052"]
    assert record.image == f"{root}/SUNRGBD-train_images/img-000002.jpg"
    assert record.label == f"{root}/sunrgbd_train_test_labels/img-005052.png"
    record = dataset.records["img-000001"]
    assert record.image == f"{root}/SUNRGBD-test_images/img-000001.jpg"
    assert record.label == f"{root}/sunrgbd_train_test_labels/img-000001.png"


def test_renamed_training_images_are_read(tmp_path):
    root = miniatures.sunrgbd(tmp_path)
    lists = sunrgbd.build(dir=str(root)).partitions
    folder = root / "SUNRGBD-train_images"
    for number in (5285, 2):
        path = folder / f"img-{number:06d}.jpg"
        os.rename(path, folder / f"img-{number + 5050:06d}.jpg")
    with pytest.raises(
        ValueError, match="as 1, and above 5285, as 10335: some"
    ):
        sunrgbd.build(dir=str(root))
    os.rename(folder / "img-000001.jpg", folder / "img-005051.jpg")
    assert sunrgbd.build(dir=str(root)).partitions == lists


def test_missing_files_are_counted(tmp_path, caplog):
    root = miniatures.sunrgbd(tmp_path, train=[1], test=[1, 2])
    for i in set(range(2, 5286)) - {7}:
        (root / f"SUNRGBD-train_images/img-{i:06d}.jpg").touch()
    for i in set(range(5052, 10336)) - {6000}:
        (root / f"sunrgbd_train_test_labels/img-{i:06d}.png").touch()
    sunrgbd.build(dir=str(root))
    (record,) = caplog.records
    message = record.getMessage()
    assert "train has 5,284 of 5,285 images" in message
    assert "no image of 1 ids: img-005057" in message
    assert "no mask, so unlabeled: 1 ids: img-006000" in message
    assert "test has 2 of 5,050 images - no image of 5,048 ids" in message


def test_what_is_wrong_is_named(tmp_path):
    root = miniatures.sunrgbd(tmp_path)
    path = root / "SUNRGBD-test_images" / "img-first.jpg"
    path.write_text("")
    with pytest.raises(ValueError, match="img-first.jpg: not img-NUMBER.jpg"):
        sunrgbd.build(dir=str(root))
    path.unlink()
    for name in ("SUNRGBD-test_images", "sunrgbd_train_test_labels"):
        shutil.rmtree(root / name)
        with pytest.raises(ValueError, match=f"{name}: not there; .* holds "):
            sunrgbd.build(dir=str(root))
