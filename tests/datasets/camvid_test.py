# SPDX-License-Identifier: Apache-2.0
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.datasets import miniatures
from tfseg.data import decode
from tfseg.datasets import camvid


def test_groups_hold_the_31_classes_but_void():
    colors = [c for group in camvid.GROUPS.values() for c in group.values()]
    assert len(camvid.GROUPS) == 11
    assert len(colors) == len(set(colors)) == 31
    assert camvid.VOID not in colors
    # The original colors are all of 0, 64, 128 and 192.
    assert {part for color in colors for part in color} == {0, 64, 128, 192}
    assert camvid.GROUPS["Road"]["Road"] == (128, 64, 128)
    assert camvid.GROUPS["Bicyclist"]["Bicyclist"] == (0, 128, 192)


@pytest.mark.parametrize("make", ["camvid_segnet", "camvid_original"])
@pytest.mark.parametrize("num_classes", [11, 12])
def test_void_is_ignored_or_the_twelfth_class(tmp_path, make, num_classes):
    folder = getattr(miniatures, make)(tmp_path)
    dataset = camvid.build(dir=str(folder), num_classes=num_classes)
    info = dataset.info
    assert info.num_classes == num_classes
    assert info.class_names[:3] == ("Sky", "Building", "Pole")
    assert info.class_names[10] == "Bicyclist"
    assert info.palette[8] == (64, 0, 128)
    contents = tf.io.read_file(dataset.records["0016E5_07959"].label)
    label = decode.decode_label(contents, dataset.mask_code).numpy()
    void = 11 if num_classes == 12 else 255
    assert (label[0] == void).all()
    assert set(np.unique(label[1:])) == {3, 8}
    assert (info.class_names[-1] == "Void") == (num_classes == 12)
    assert info.mask_code().colors == info.palette + (
        (camvid.VOID,) * (num_classes == 11)
    )


def test_unknown_colors_are_found(tmp_path):
    dataset = camvid.build(dir=str(miniatures.camvid_original(tmp_path)))
    mask = np.full([1, 2, 3], 7, np.uint8)
    mask[0, 1] = camvid.GROUPS["Car"]["Train"]
    contents = tf.io.encode_png(mask)
    label = decode.decode_label(contents, dataset.mask_code)
    np.testing.assert_array_equal(label, [[-1, 8]])


@pytest.mark.parametrize(
    "name, part",
    [
        ("0001TP_006690", "train"),
        ("0001TP_008520", "train"),
        ("0001TP_008550", "test"),
        ("0001TP_010380", "test"),
        ("0006R0_f03930", "train"),
        ("0016E5_07920", "train"),
        ("0016E5_07959", "validation"),
        ("0016E5_08159", "validation"),
        ("0016E5_08190", "train"),
        ("Seq05VD_f00000", "test"),
        ("Seq05VD_f05100", "test"),
    ],
)
def test_lists_of_the_original_follow_those_of_segnet(name, part):
    assert camvid._part(name) == part


def test_both_versions_have_the_same_lists(tmp_path):
    segnet = miniatures.camvid_segnet(tmp_path / "segnet")
    original = miniatures.camvid_original(tmp_path / "original")
    lists = camvid.build(dir=str(segnet)).partitions
    assert camvid.build(dir=str(segnet.parent)).partitions == lists
    assert camvid.build(dir=str(original)).partitions == lists


def test_what_is_wrong_is_named(tmp_path):
    root = miniatures.camvid_segnet(tmp_path)
    with pytest.raises(ValueError, match="num_classes` must be 11, or 12"):
        camvid.build(dir=str(root), num_classes=32)
    shutil.rmtree(root / "valannot")
    with pytest.raises(ValueError, match="valannot: not there; .*testannot"):
        camvid.build(dir=str(root))
    (root / "valannot").mkdir()
    with pytest.raises(ValueError, match=r"valannot: no file \*.png; it is em"):
        camvid.build(dir=str(root))
    with pytest.raises(ValueError, match="trainannot: not there"):
        camvid.build(dir=str(tmp_path / "elsewhere"))


def test_missing_frames_are_counted(tmp_path, caplog):
    root = miniatures.camvid_original(tmp_path)
    (root / "701_StillsRaw_full/0016E5_07959.png").unlink()
    camvid.build(dir=str(root))
    (record,) = caplog.records
    message = "validation has 1 of 101 images - no image of 1 ids: 0016E5_07959"
    assert message in record.getMessage()
