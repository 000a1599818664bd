# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.ops import masks

# The 12 cases of box_masks.npz:
# seed, N, size, proportion, n, random_aspect, by_size, within_bounds, invert.
CASES = [
    (12345, 4, (32, 48), (0.5, 0.5), 1, True, False, True, True),
    (12345, 4, (64, 64), (0.25, 0.5), 3, True, False, True, True),
    (1, 4, (33, 47), (0.0, 1.0), 1, True, False, True, True),
    (2, 4, (32, 32), (0.5, 0.5), 1, True, False, True, False),
    (3, 4, (32, 40), (0.5, 0.5), 1, False, False, True, True),
    (4, 4, (32, 40), (0.5, 0.5), 3, False, False, True, True),
    (5, 4, (32, 40), (0.2, 0.6), 1, True, True, True, True),
    (6, 4, (32, 40), (0.2, 0.6), 2, False, True, True, True),
    # Described as "random_aspect True", but its boxes are square (23 x 23):
    # 299, 460, 260, 0, 0 and 288 zeros follow from a fixed aspect only.
    (12345, 6, (32, 32), (0.5, 0.5), 1, False, False, False, False),
    (7, 4, (40, 24), (0.5, 0.5), 2, True, False, False, True),
    (8, 2, (16, 16), (0.0, 0.0), 1, True, False, True, True),
    (9, 2, (16, 16), (1.0, 1.0), 1, True, False, True, True),
]
CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])


def draw(case):
    """The official code's draws in its order, as arguments of box_masks."""
    seed, num, size, (low, high), boxes, free, by_size, within, invert = case
    random = np.random.RandomState(seed)
    proportion = random.uniform(low, high, (num, boxes))
    aspect = np.zeros((num, boxes))
    if free:
        limits = (low, high) if by_size else (0, 1)
        aspect = random.uniform(*limits, (num, boxes))
    position = random.uniform(0, 1, (num, boxes, 2))
    options = {
        "size": size,
        "by_size": by_size,
        "within_bounds": within,
        "random_aspect": free,
        "invert": invert,
    }
    return (proportion, aspect, position), options


def oracle(proportion, aspect, position, *, size, **options):
    """The corrected masks, box after box in plain numpy."""
    num, boxes = proportion.shape
    result = np.zeros((num, *size), bool)
    for i, k in np.ndindex(num, boxes):
        p, u = proportion[i, k], aspect[i, k]
        if options["by_size"]:
            sides = (p, u if options["random_aspect"] else p)
        elif p == 0:
            sides = (0, 0)
        elif options["random_aspect"]:
            sides = (p**u, p ** (1 - u))
        else:
            sides = (p**0.5, p**0.5)
        window = []
        for length, side, r in zip(size, sides, position[i, k]):
            # np.rint rounds halves to even.
            extent = np.rint(length * side / boxes**0.5)
            if options["within_bounds"]:
                start = np.rint((length - extent) * r)
                stop = start + extent
            else:
                center = np.rint(length * r)
                start, stop = center - extent / 2, center + extent / 2
            window.append(slice(max(int(start), 0), max(int(stop), 0)))
        result[i][tuple(window)] ^= True
    return (result == options["invert"])[..., None].astype(np.float32)


@CALLS
@pytest.mark.parametrize("index", range(12))
def test_official_behavior_agrees_with_official_code(wrap, index):
    expected = golden.load("box_masks")[f"masks{index}"]
    draws, options = draw(CASES[index])
    options |= {
        "shrink_fixed_aspect_twice": True,
        "wrap_negative_corners": True,
    }
    got = wrap(lambda *x: masks.box_masks(*x, **options))(*draws)
    assert got.dtype == tf.float32
    np.testing.assert_array_equal(got, expected)


@CALLS
@pytest.mark.parametrize("index", range(12))
def test_default_agrees_with_oracle(wrap, index):
    draws, options = draw(CASES[index])
    got = wrap(lambda *x: masks.box_masks(*x, **options))(*draws)
    np.testing.assert_array_equal(got, oracle(*draws, **options))


@pytest.mark.parametrize("by_size", [False, True])
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("size", [(17, 31), (24, 9), (1, 7)])
def test_random_draws_agree_with_oracle(by_size, within, free, size):
    case = (3, 30, size, (0.1, 0.9), 3, free, by_size, within, True)
    draws, options = draw(case)
    np.testing.assert_array_equal(
        masks.box_masks(*draws, **options), oracle(*draws, **options)
    )


def test_hand_value():
    # A quarter of 4x6 with the image's shape: 2x3 pixels. Position (0.5, 1):
    # y0 = round(2 * 0.5) = 1, x0 = round(3 * 1) = 3.
    mask = masks.box_masks(
        [[0.25]], [[0.5]], [[[0.5, 1.0]]], size=(4, 6), random_aspect=False
    )
    expected = np.zeros((4, 6))
    expected[1:3, 3:6] = 1
    np.testing.assert_array_equal(mask[0, ..., 0], expected)


def test_halves_round_to_even():
    # Sides 0.5 * 5 = 2.5 -> 2 and 0.5 * 7 = 3.5 -> 4.
    mask = masks.box_masks(
        [[0.5]], [[0.5]], [[[0.0, 0.0]]], size=(5, 7), by_size=True
    )
    expected = np.zeros((5, 7))
    expected[:2, :4] = 1
    np.testing.assert_array_equal(mask[0, ..., 0], expected)


def test_rounds_in_float64():
    # 10 * (0.25 + 1e-12) rounds to 3; in float32 it is 2.5, which rounds to 2.
    proportion = np.array([[0.25 + 1e-12]])
    mask = masks.box_masks(
        proportion, proportion, [[[0.0, 0.0]]], size=(10, 10), by_size=True
    )
    assert tf.reduce_sum(mask) == 9


def test_boxes_combine_by_xor():
    # Both sides are 1 * sqrt(1/2) of 4 pixels: round(2.83) = 3. One box stands
    # in the upper left corner, the other in the lower right.
    mask = masks.box_masks(
        [[1.0, 1.0]], [[0.0, 0.0]], [[[0, 0], [1, 1]]], size=(4, 4)
    )
    one, two = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    one[:3, :3], two[1:, 1:] = True, True
    np.testing.assert_array_equal(mask[0, ..., 0], one ^ two)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("invert", [False, True])
def test_proportions_zero_and_one(free, invert):
    draws = [[0.0], [1.0]], [[0.3], [0.3]], [[[0.2, 0.7]]] * 2
    mask = masks.box_masks(
        *draws, size=(5, 8), random_aspect=free, invert=invert
    )
    np.testing.assert_array_equal(mask[0], 1 - invert)
    np.testing.assert_array_equal(mask[1], invert)


def random_masks(num, seed, **options):
    defaults = {"size": (20, 33), "proportion_range": (0.5, 0.5)}
    defaults |= {"num_boxes": 1, "by_size": False, "within_bounds": True}
    defaults |= {"random_aspect": True, "invert": True}
    defaults |= {"shrink_fixed_aspect_twice": False}
    defaults |= {"wrap_negative_corners": False} | options
    return masks.random_box_masks(num, tf.convert_to_tensor(seed), **defaults)


def test_same_seed_same_masks():
    first, again = random_masks(5, [1, 2]), random_masks(5, [1, 2])
    np.testing.assert_array_equal(first, again)
    assert np.any(first != random_masks(5, [1, 3]))
    assert np.any(first != random_masks(5, [2, 2]))
    # The masks of one call differ among themselves.
    assert len({mask.tobytes() for mask in first.numpy()}) == 5


@pytest.mark.parametrize("num,boxes", [(4, 1), (5, 3)])
def test_xla_draws_the_same_masks(num, boxes):
    compiled = tf.function(
        lambda seed: random_masks(num, seed, num_boxes=boxes), jit_compile=True
    )
    for seed in ([1, 2], [3, -4]):
        np.testing.assert_array_equal(
            compiled(tf.constant(seed)),
            random_masks(num, seed, num_boxes=boxes),
        )


def test_area_and_place_are_as_asked():
    mask = random_masks(2000, [0, 7], size=(64, 96)).numpy()[..., 0]
    area = mask.mean((1, 2))
    # Each side is rounded by half a pixel of at least 32 and 48 at most.
    assert np.all(np.abs(area - 0.5) < 0.03)
    np.testing.assert_allclose(area.mean(), 0.5, atol=0.002)
    # A uniform place covers the image symmetrically, the middle the most.
    cover = mask.mean(0)
    np.testing.assert_allclose(cover, cover[::-1, ::-1], atol=0.1)
    assert cover[32, 48] > 0.9 > 0.1 > cover[0, 0]
    # Height = 0.5^u has the median 0.5^0.5.
    height = mask.any(2).mean(1)
    np.testing.assert_allclose(np.median(height), 0.5**0.5, atol=0.02)


def test_area_of_a_range_is_uniform():
    mask = random_masks(
        3000, [5, 5], size=(64, 64), proportion_range=(0.2, 0.6)
    )
    area = mask.numpy().mean((1, 2, 3))
    quantiles = np.quantile(area, [0.01, 0.25, 0.5, 0.75, 0.99])
    np.testing.assert_allclose(
        quantiles, [0.204, 0.3, 0.4, 0.5, 0.596], atol=0.02
    )


def test_area_shape_and_place_are_independent():
    mask = random_masks(
        2000, [5, 7], size=(64, 64), proportion_range=(0.2, 0.6)
    ).numpy()[..., 0]
    area = mask.mean((1, 2))
    rows, columns = mask.any(2), mask.any(1)
    shape = np.log(rows.mean(1)) / np.log(area)
    room = np.stack([64 - rows.sum(1), 64 - columns.sum(1)])
    place = np.stack([rows.argmax(1), columns.argmax(1)]) / np.maximum(room, 1)
    # Where a box leaves little room, its place is too coarse to tell.
    free = room.min(0) > 8
    correlation = np.corrcoef([area[free], shape[free], *place[:, free]])
    np.testing.assert_allclose(correlation, np.eye(4), atol=0.1)


def test_sides_of_by_size_are_in_range():
    mask = random_masks(
        500, [5, 6], size=(50, 100), proportion_range=(0.2, 0.6), by_size=True
    ).numpy()[..., 0]
    height, width = mask.any(2).sum(1), mask.any(1).sum(1)
    assert height.min() >= 10 and height.max() <= 30
    assert width.min() >= 20 and width.max() <= 60
    assert abs(np.corrcoef(height, width)[0, 1]) < 0.15


def test_traced_once_for_all_seeds_and_numbers():
    traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([2], tf.int32),
        ]
    )
    def run(num, seed):
        traces.append(1)
        mask = random_masks(num, seed, num_boxes=3)
        assert mask.shape.rank == 4 and mask.shape[-1] == 1
        return mask

    for num, seed in ((2, [0, 0]), (3, [0, 1]), (1, [7, 7])):
        mask = run(num, seed)
        assert mask.shape == (num, 20, 33, 1)
        np.testing.assert_array_equal(
            mask, random_masks(num, seed, num_boxes=3)
        )
    assert len(traces) == 1


def test_size_may_be_known_only_when_running():
    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def run(image):
        return random_masks(2, [1, 1], size=tf.shape(image))

    np.testing.assert_array_equal(
        run(tf.zeros([9, 14])), random_masks(2, [1, 1], size=(9, 14))
    )


def test_bad_arguments_are_refused():
    for wrong in ((0.5, 0.2), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match="boxes.proportion_range` must"):
            random_masks(1, [0, 0], proportion_range=wrong)
    with pytest.raises(ValueError, match="boxes.num_boxes`.*0"):
        random_masks(1, [0, 0], num_boxes=0)
