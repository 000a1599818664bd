# SPDX-License-Identifier: Apache-2.0
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.datasets import miniatures
from tfseg.datasets import cityscapes


@pytest.fixture(name="root")
def _root(tmp_path):
    return miniatures.cityscapes(tmp_path / "data")


def _build(root, **options):
    return cityscapes.build(dir=str(root), **options)


def test_classes_are_those_of_the_authors():
    ids = [value for value, _, _ in cityscapes._CLASSES]
    assert ids == [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    colors = {name: color for _, name, color in cityscapes._CLASSES}
    assert colors["road"] == (128, 64, 128)
    assert colors["person"] == (220, 20, 60)
    assert colors["bicycle"] == (119, 11, 32)
    sums = {part: sum(c.values()) for part, c in cityscapes.CITIES.items()}
    assert sums == {"train": 2975, "val": 500, "test": 1525}


def test_label_ids_become_train_ids(root):
    table = _build(root).mask_code.index_labels
    assert (table[7], table[26], table[33]) == (0, 13, 18)
    # Caravan, trailer, license plate: void.
    assert table[29] == table[30] == table[255] == 255
    assert table[0] == table[6] == 255
    assert set(table[34:255]) == {-1}
    assert sorted(v for v in table if 0 <= v < 255) == list(range(19))


def test_train_ids_are_used_where_all_are_there(root, caplog):
    paths = sorted(root.glob("gtFine/*/*/*_labelIds.png"))
    paths = [path for path in paths if "/test/" not in str(path)]

    def write(path):
        name = path.name.replace("labelIds", "labelTrainIds")
        miniatures.save(path.with_name(name), np.zeros([16, 32], np.uint8))

    for path in paths[1:]:
        write(path)
    dataset = _build(root)
    assert "only 5 are there as labelTrainIds" in caplog.text
    assert dataset.mask_code.index_labels[7] == 0
    write(paths[0])
    dataset = _build(root)
    labels = [r.label for r in dataset.records.values() if r.label]
    assert len(labels) == 6
    assert all(label.endswith("_gtFine_labelTrainIds.png") for label in labels)
    table = dataset.mask_code.index_labels
    assert table[:19] == tuple(range(19)) and table[255] == 255
    assert set(table[19:255]) == {-1}
    for path in paths:
        path.unlink()
    assert len(_build(root).partitions["train"]) == 4


def test_dummies_of_test_are_no_labels(root):
    dataset = _build(root)
    assert dataset.partitions["test"] == (
        "bonn_000000_000019",
        "bonn_000001_000019",
    )
    assert all(
        dataset.records[name].label is None
        for name in dataset.partitions["test"]
    )
    shutil.rmtree(root / "leftImg8bit" / "test")
    assert "test" not in _build(root).partitions


def test_extra_images_train_without_labels(tmp_path, root):
    assert "train_extra" not in str(_build(root).records)
    with pytest.raises(ValueError, match="leftImg8bit/train_extra: not there"):
        _build(root, extra=True)
    root = miniatures.cityscapes(tmp_path / "more", extra=True)
    dataset = _build(root, extra=True)
    assert dataset.partitions["train"][4:] == (
        "augsburg_000000_000019",
        "augsburg_000001_000019",
    )
    assert dataset.records["augsburg_000000_000019"].label is None


def test_warning_names_the_cities(root, caplog):
    (
        root / "leftImg8bit/train/zurich/zurich_000001_000019_leftImg8bit.png"
    ).unlink()
    (
        root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    ).unlink()
    _build(root)
    (record,) = caplog.records
    message = record.getMessage()
    assert "train has 3 of 2,975 images - no image of 1 ids: zurich_" in message
    assert "no mask, so unlabeled: 1 ids: aachen_000000_000019" in message
    assert "aachen 2 of 174, bochum 0 of 96" in message
    assert "test has 2 of 1,525 images" in message


@pytest.mark.parametrize(
    "folder, message",
    [
        ("leftImg8bit", "leftImg8bit: not there; .* holds gtFine. Fix: "),
        ("leftImg8bit/train", "leftImg8bit/train: not there; .* test, val"),
        ("gtFine", "gtFine/train: not there; .*data holds leftImg8bit"),
        ("gtFine/val", "gtFine/val: not there; .* holds test, train"),
        ("gtFine/val/lindau", r"gtFine/val/CITY/\*_gtFine_labelTrainIds.png"),
        ("leftImg8bit/train/aachen", None),
    ],
)
def test_half_unpacked_archives_are_refused(root, folder, message):
    shutil.rmtree(root / folder)
    if message is None:
        assert len(_build(root).partitions["train"]) == 2
    else:
        with pytest.raises(ValueError, match=message):
            _build(root)


def test_half_resolution_by_hand():
    image = np.array([[0, 1, 9, 9], [1, 1, 9, 8]], np.uint8)
    np.testing.assert_array_equal(cityscapes._mean(image), [[0, 8]])
    ids = [[7, 7, 9, 8, 33, 1, 26, 26], [8, 8, 8, 7, 2, 33, 26, 0]]
    half = cityscapes._majority(np.array(ids, np.uint8))
    # Ties to the lowest: 7 of 7 7 8 8; 8 of 7 8 8 9; 33 of 1 2 33 33.
    np.testing.assert_array_equal(half, [[7, 8, 33, 26]])
    four = np.array([[9, 4], [6, 5]], np.uint8)
    np.testing.assert_array_equal(cityscapes._majority(four), [[4]])


def test_majority_agrees_with_counting():
    ids = np.random.default_rng(0).integers(0, 4, (40, 60)).astype(np.uint8)
    blocks = ids.reshape(20, 2, 30, 2).transpose(0, 2, 1, 3).reshape(20, 30, 4)
    counts = (blocks[..., None] == np.arange(4)).sum(2)
    expected = counts.argmax(-1)
    np.testing.assert_array_equal(cityscapes._majority(ids), expected)


def _files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_half_size_copy_has_the_same_layout(tmp_path, root):
    out = tmp_path / "half"
    cityscapes.prepare(dir=str(out), source=str(root))
    dataset, whole = _build(out), _build(root)
    assert dataset.partitions == whole.partitions
    assert dataset.mask_code == whole.mask_code
    record = dataset.records["lindau_000001_000019"]
    with Image.open(record.image) as image:
        assert (image.mode, image.size) == ("RGB", (16, 8))
    with Image.open(record.label) as mask:
        assert (mask.mode, mask.size) == ("L", (16, 8))
        assert set(np.unique(mask)) == {1, 7, 26}
    before = _files(out)
    assert len(before) == 8 + 6 + 1
    cityscapes.prepare(dir=str(out), source=str(root))
    assert _files(out) == before
    for path in list(out.rglob("*lindau*.png")):
        path.unlink()
    cityscapes.prepare(dir=str(out), source=str(root))
    assert _files(out) == before


def test_copy_names_what_it_cannot_convert(tmp_path, root):
    folder = root / "leftImg8bit/train/aachen"
    odd = folder / "aachen_000000_000019_leftImg8bit.png"
    cut = folder / "aachen_000001_000019_leftImg8bit.png"
    miniatures.save(odd, miniatures.picture("x", (15, 32)))
    cut.write_bytes(cut.read_bytes()[:200])
    out = tmp_path / "half"
    with pytest.raises(ValueError) as error:
        cityscapes.prepare(dir=str(out), source=str(root))
    message = str(error.value)
    assert "2 of 14 images and masks could not be converted" in message
    assert f"{odd}: (32, 15) pixels cannot be halved" in message
    assert f"{cut}: cannot be read" in message
    assert len(list(out.rglob("*.png"))) == 12
    assert not list(out.rglob(".*"))


def test_copy_goes_beside_other_things_not_over_them(tmp_path, root):
    with pytest.raises(ValueError, match="was not written by launch.prepare"):
        cityscapes.prepare(dir=str(root), source=str(root))
    with pytest.raises(ValueError, match="`--dir` is empty"):
        cityscapes.prepare(dir="", source=str(root))
