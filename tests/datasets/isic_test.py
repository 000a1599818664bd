# SPDX-License-Identifier: Apache-2.0
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.datasets import miniatures
from tfseg.datasets import isic


def _exact(pixels, side):
    """Every pixel is cut into `side` x `side` equal parts."""
    height, width = pixels.shape[:2]
    fine = pixels.astype(np.int64).repeat(side, 0).repeat(side, 1)
    fine = fine.reshape(side, height, side, width, -1)
    mean = fine.sum((1, 3)) / (height * width)
    return np.rint(mean).astype(np.uint8).reshape(side, side, *pixels.shape[2:])


@pytest.mark.parametrize("size", [(50, 37), (16, 16), (8, 64), (7, 5)])
def test_area_mean_is_exact(size):
    draw = np.random.default_rng(0)
    for shape in (size, (*size, 3)):
        pixels = draw.integers(0, 256, shape).astype(np.uint8)
        found = isic.area_mean(pixels, 8)
        np.testing.assert_array_equal(found, _exact(pixels, 8))


def test_area_mean_by_hand():
    row = np.array([[0, 3, 6]], np.uint8).repeat(3, 0)
    # Halves of a pixel: (0 + 3 / 2) / 1.5 = 1 and 5.
    np.testing.assert_array_equal(isic.area_mean(row, 2), [[1, 5], [1, 5]])
    pair = np.array([[0, 1], [0, 1]], np.uint8)
    np.testing.assert_array_equal(isic.area_mean(pair, 1), [[0]])
    np.testing.assert_array_equal(isic.area_mean(pair + 1, 1), [[2]])


def test_records_leave_superpixels_out(tmp_path):
    root = miniatures.isic(tmp_path)
    dataset = isic.build(dir=str(root))
    assert len(dataset.records) == 6
    assert not any("superpixels" in name for name in dataset.records)
    record = dataset.records["ISIC_0012086"]
    assert record.image == f"{root}/ISIC-2017_Test_v2_Data/ISIC_0012086.jpg"
    assert record.label == (
        f"{root}/ISIC-2017_Test_v2_Part1_GroundTruth/"
        "ISIC_0012086_segmentation.png"
    )
    assert dataset.info.class_names == ("background", "lesion")
    table = dataset.mask_code.index_labels
    assert (table[0], table[255]) == (0, 1) and set(table[1:255]) == {-1}


def _files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_copy_is_of_248_pixels(tmp_path):
    root = miniatures.isic(tmp_path / "data", size=(300, 260))
    out = tmp_path / "small"
    isic.prepare(dir=str(out), source=str(root))
    small, large = (isic.build(dir=str(path)) for path in (out, root))
    assert small.partitions == large.partitions
    name = "ISIC_0000001"
    with Image.open(small.records[name].image) as image:
        assert image.format == "PNG"
        with Image.open(large.records[name].image) as jpeg:
            expected = isic.area_mean(np.array(jpeg), 248)
        np.testing.assert_array_equal(image, expected)
    with Image.open(small.records[name].label) as mask:
        assert mask.mode == "L"
        with Image.open(large.records[name].label) as whole:
            expected = isic.area_mean(np.array(whole), 248) >= 127
        np.testing.assert_array_equal(np.array(mask), expected * 255)
    before = _files(out)
    assert len(before) == 13
    next(out.rglob("ISIC_0001852.png")).unlink()
    isic.prepare(dir=str(out), source=str(root))
    assert _files(out) == before


def test_mask_of_127_is_the_lesion(tmp_path):
    """The threshold of French et al., after rounding to whole values."""
    path = tmp_path / "x_segmentation.png"
    for value, expected in ((126, 0), (127, 255), (255, 255), (0, 0)):
        miniatures.save(path, np.full([3, 5], value, np.uint8))
        path.with_suffix(".out").write_bytes(isic._scaled(str(path)))
        with Image.open(path.with_suffix(".out")) as mask:
            assert set(np.unique(mask)) == {expected}


def test_what_is_wrong_is_named(tmp_path, caplog):
    root = miniatures.isic(tmp_path)
    shutil.rmtree(root / "ISIC-2017_Test_v2_Data")
    (root / "ISIC-2017_Training_Data/ISIC_0000002.jpg").unlink()
    isic.build(dir=str(root))
    (record,) = caplog.records
    message = record.getMessage()
    assert "train has 2 of 2,000 images - no image of 1 ids" in message
    assert "test has 0 of 600 images" in message
    shutil.rmtree(root / "ISIC-2017_Validation_Part1_GroundTruth")
    with pytest.raises(ValueError, match="Validation_Part1_Gr.*: not there"):
        isic.build(dir=str(root))
    with pytest.raises(ValueError, match="`--source` is empty"):
        isic.prepare(dir=str(tmp_path / "out"), source="")
    assert not (tmp_path / "out").exists()
