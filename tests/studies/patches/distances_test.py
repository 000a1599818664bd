# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from tfseg.studies.patches import distances


def _image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def _brute_force(image, patch):
    """Cuts out all patches and subtracts them, with pixels in [0, 1]."""
    margin = patch // 2 + 1
    pixels = np.pad(
        image / 255, [(margin,) * 2, (margin,) * 2, (0, 0)], "symmetric"
    )

    def cut(y, x):
        top, left = y + margin - patch // 2, x + margin - patch // 2
        return pixels[top : top + patch, left : left + patch]

    height, width = image.shape[:2]
    result = np.zeros([height, width])
    for y in range(height):
        for x in range(width):
            result[y, x] = np.mean(
                [
                    np.linalg.norm(cut(y, x) - cut(y + dy, x + dx))
                    for dy, dx in ((0, -1), (0, 1), (-1, 0), (1, 0))
                ]
            )
    return result


@pytest.mark.parametrize(
    "shape, patch",
    [
        ((9, 7, 3), 1),
        ((9, 7, 3), 3),
        ((7, 9, 3), 7),
        ((6, 6, 1), 5),
        ((1, 1, 3), 1),
        ((1, 5, 3), 1),
    ],
)
def test_neighbor_distances_are_those_of_patches(shape, patch):
    image = _image(*shape)
    np.testing.assert_allclose(
        distances.neighbor_distances(image, patch),
        _brute_force(image, patch),
        rtol=1e-12,
        atol=1e-12,
    )


def test_constant_image_has_no_distances():
    image = np.full([8, 8, 3], 201, np.uint8)
    assert (distances.neighbor_distances(image, 5) == 0).all()


def test_flat_region_of_a_large_bright_image_is_0():
    # Where cumulative sums in float32 cancel.
    image = _image(400, 400, 3)
    image[-20:, -20:] = 77
    result = distances.neighbor_distances(image, 3)
    assert (result[-17:, -17:] == 0).all()
    assert (result[:-21] > 0).all()


@pytest.mark.parametrize("shape", [(6, 8), (3, 5, 9)])
def test_box_sums_in_any_rank(shape):
    values = _image(*shape)
    windows = np.lib.stride_tricks.sliding_window_view(values, (3, 3), (-2, -1))
    result = distances.box_sums(values, 3)
    np.testing.assert_array_equal(result, windows.sum((-1, -2), np.int64))


def test_class_edges_are_between_two_classes():
    label = np.array(
        [
            [0, 0, 1, 1],
            [0, 0, 1, 255],
            [0, 0, 255, 2],
            [0, 0, 0, 0],
        ]
    )
    expected = np.array(
        [
            [0, 1, 1, 0],
            [0, 1, 1, 0],
            [0, 0, 0, 1],
            [0, 0, 0, 1],
        ]
    )
    np.testing.assert_array_equal(distances.class_edges(label), expected)
    assert not distances.class_edges(label[:1, :1]).any()
    below, right = distances.class_changes(label)
    assert below.shape == (3, 4) and right.shape == (4, 3)
    np.testing.assert_array_equal(np.argwhere(below), [[2, 3]])
    np.testing.assert_array_equal(np.argwhere(right), [[0, 1], [1, 1]])
