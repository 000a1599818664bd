# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from tfseg.studies.patches import search

PATCH = 5
SIZES = ((12, 14), (11, 16), (40, 33))


@pytest.fixture(scope="module")
def examples():
    """(image, label) of several sizes; class 3 is in one image alone."""
    rng = np.random.default_rng(0)
    result = []
    for height, width in SIZES:
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        coarse = rng.integers(0, 3, (height // 4 + 1, width // 4 + 1))
        label = np.kron(coarse, np.ones([4, 4], int))[:height, :width]
        label[height // 2, 3:6] = 255
        result.append((image, label))
    result[1][1][5:7, 5:7] = 3
    return result


def _pairs(label):
    """All (y, x, y of neighbor, x of neighbor), one by one."""
    height, width = label.shape

    def whole(y, x):
        reach = PATCH // 2
        return (
            reach <= y < height - reach
            and reach <= x < width - reach
            and label[y, x] != 255
        )

    return {
        (y, x, y + dy, x + dx)
        for y, x in itertools.product(range(height), range(width))
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        if whole(y, x)
        and whole(y + dy, x + dx)
        and label[y, x] != label[y + dy, x + dx]
    }


def _cut(image, y, x):
    reach = PATCH // 2
    rows, columns = slice(y - reach, y + reach + 1), slice(x - reach, x + 3)
    return image[rows, columns] / 255


def _all_anchors(examples, **options):
    counts = np.array([len(_pairs(label)) for _, label in examples])
    options = {"number": 10**6, "patch": PATCH, "seed": 0} | options
    return search.draw_anchors(examples, counts, **options)


def test_boundary_pairs(examples):
    for _, label in examples:
        pairs = search.boundary_pairs(label, PATCH).tolist()
        assert len(pairs) > 10
        assert sorted(map(tuple, pairs)) == sorted(_pairs(label))
    assert not len(search.boundary_pairs(np.zeros([9, 9], int), PATCH))
    assert not len(search.boundary_pairs(np.eye(PATCH, dtype=int), PATCH))


def test_anchors_are_what_the_pairs_say(examples):
    anchors = _all_anchors(examples)
    expected = []
    for position, (image, label) in enumerate(examples):
        for y, x, other_y, other_x in _pairs(label):
            one, other = _cut(image, y, x), _cut(image, other_y, other_x)
            distance = np.linalg.norm(one - other)
            expected.append((position, label[y, x], distance))
    found = zip(anchors.images, anchors.classes, anchors.negatives)
    np.testing.assert_allclose(sorted(found), sorted(expected), rtol=1e-12)


def test_some_anchors_are_drawn_from_all(examples):
    every = _all_anchors(examples)
    some = _all_anchors(examples, number=40)
    again = _all_anchors(examples, number=40)
    others = _all_anchors(examples, number=40, seed=1)
    assert len(some) == 40 and set(some.images) == {0, 1, 2}
    np.testing.assert_array_equal(some.patches, again.patches)
    assert not np.array_equal(some.patches, others.patches)
    patches = {patch.tobytes() for patch in every.patches}
    assert len(patches & {patch.tobytes() for patch in some.patches}) > 30


def _search(anchors, examples, order):
    one = search.Search(anchors)
    for position in order:
        one.look(position, *examples[position])
    return one.distances()


def _nearest(anchors, row, examples):
    """The least distance, patch by patch."""
    reach = PATCH // 2
    found = [
        np.linalg.norm(anchors.patches[row] / 255 - _cut(image, y, x))
        for position, (image, label) in enumerate(examples)
        if position != anchors.images[row]
        for y in range(reach, label.shape[0] - reach)
        for x in range(reach, label.shape[1] - reach)
        if label[y, x] == anchors.classes[row]
    ]
    return min(found, default=np.inf)


def test_search_agrees_with_brute_force(examples):
    anchors = _all_anchors(examples, number=30)
    result = _search(anchors, examples, (0, 1, 2))
    expected = [_nearest(anchors, row, examples) for row in range(30)]
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    # Only that image has class 3.
    lonely = anchors.classes == 3
    assert lonely.any() and (np.isinf(result) == lonely).all()
    other_order = _search(anchors, examples, (2, 0, 1))
    np.testing.assert_array_equal(result, other_order)


def test_equal_patches_have_no_distance(examples):
    image, label = examples[2]
    anchors = _all_anchors([(image, label)], number=20)
    one = search.Search(anchors)
    one.look(1, image, label)
    assert (one.distances() == 0).all()


def test_one_channel_and_one_pixel():
    rng = np.random.default_rng(1)
    label = np.arange(36).reshape(6, 6) % 2
    images = rng.integers(0, 256, (2, 6, 6, 1)).astype(np.uint8)
    examples = [(image, label) for image in images]
    counts = [len(search.boundary_pairs(label, 1))] * 2
    anchors = search.draw_anchors(examples, counts, number=9, patch=1, seed=0)
    values = anchors.patches[:, 0, 0, 0].astype(int)
    for row, distance in enumerate(_search(anchors, examples, (0, 1))):
        others = images[1 - anchors.images[row], ..., 0].astype(int)
        others = others[label == anchors.classes[row]]
        expected = np.abs(others - values[row]).min() / 255
        assert distance == pytest.approx(expected, rel=1e-12)


def test_chunks_are_all_anchors_in_order(examples, monkeypatch):
    anchors = _all_anchors(examples, number=30)
    sizes = np.array(SIZES)
    whole = search.chunks(anchors, sizes)
    assert len(whole) == 1 and len(whole[0]) == 30
    monkeypatch.setattr(search, "_BYTES", 64 * 64 * 8 * 9 * 7)
    parts = search.chunks(anchors, sizes)
    assert [len(part) for part in parts] == [7, 7, 7, 7, 2]
    for name in ("patches", "classes", "images", "negatives"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(anchors, name))
    searched = [_search(part, examples, (0, 1, 2)) for part in parts]
    np.testing.assert_array_equal(
        np.concatenate(searched), _search(anchors, examples, (0, 1, 2))
    )
