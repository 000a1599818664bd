# SPDX-License-Identifier: Apache-2.0
import numpy as np

from tfseg.data.checks import coverage

NAMES = ("ground", "tree", "car")


def _find(counts, parts=None, side=4):
    """Findings on masks of side x side pixels."""
    paths = [f"{i}.png" for i in range(len(counts))]
    found = coverage.find_in_masks(
        "folder",
        paths,
        [(side, side)] * len(counts),
        np.array(counts, np.int64),
        NAMES,
        parts or ["labeled"] * len(counts),
    )
    return [(x.kind, x.file, x.value) for x in found], found


def test_good_masks_have_no_finding():
    assert _find([[8, 4, 4], [16, 0, 0], [8, 8, 0], [2, 2, 9]])[0] == []
    empty = np.zeros([0, 3], np.int64)
    assert coverage.find_in_masks("f", [], [], empty, NAMES, []) == []


def test_mask_of_ignored_pixels_alone():
    found, _ = _find([[0, 0, 0], [8, 4, 4]])
    assert found == [("all_ignored", "0.png", 16)]


def test_dummy_masks_are_counted_once():
    kinds, found = _find([[16, 0, 0]] * 3 + [[8, 4, 4]] * 3)
    assert kinds == [("one_class", "0.png", 3)]
    assert "nothing but 'ground', as do 3 of 6 masks" in found[0].message
    assert "remove these masks" in found[0].fix
    # Partly ignored: somebody has labeled it.
    assert _find([[12, 0, 0]] * 3 + [[8, 4, 4]] * 3)[0] == []


def test_class_that_no_mask_shows():
    kinds, found = _find([[8, 8, 0], [4, 12, 0]])
    assert kinds == [("never_labeled", "folder", ("car",))]
    assert "saved as gray" not in found[0].message
    _, found = _find([[8, 0, 0], [4, 0, 0]])
    assert "only the ids 0 are there" in found[0].message


def test_class_that_training_does_not_show():
    counts = [[8, 8, 0], [8, 0, 8], [8, 4, 4]]
    kinds, found = _find(counts, ["labeled", "validation", None])
    assert kinds == [("not_in_training", "1.png", "car")]
    assert "in 2 masks (unused, validation)" in found[0].message
    assert _find(counts, ["labeled", "labeled", "validation"])[0] == []


def test_small_images_are_counted():
    sizes = np.array([[10, 10], [8, 20], [20, 4], [10, 30]])
    (found,) = coverage.find_small(list("abcd"), sizes, (10, 10))
    assert (found.file, found.value) == ("c", 2)
    assert "is 4 x 20 pixels" in found.message
    assert "of 4 training images 2 (50.0%)" in found.message
    assert coverage.find_small(list("abcd"), sizes, (8, 4)) == []
    assert coverage.find_small([], np.zeros([0, 2], int), (8, 4)) == []
