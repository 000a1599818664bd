# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tests import golden
from tfseg.ops import components


def oracle(classes, stride=1):
    """Per image the set of boxes of 8-connected components, by scipy."""
    result = []
    for image in np.asarray(classes) > 0:
        label, _ = ndimage.label(image[::stride, ::stride], np.ones((3, 3)))
        boxes = [
            (
                rows.start * stride,
                columns.start * stride,
                min(rows.stop * stride, image.shape[0]),
                min(columns.stop * stride, image.shape[1]),
            )
            for rows, columns in ndimage.find_objects(label)
        ]
        result.append(sorted(boxes))
    return result


def found(boxes):
    """Per image the sorted boxes that are not empty."""
    return [
        sorted(tuple(int(side) for side in box) for box in image if any(box))
        for image in np.asarray(boxes)
    ]


def perimeters(boxes):
    boxes = np.asarray(boxes)
    return 2 * (boxes[..., 2:] - boxes[..., :2]).sum(-1)


def noise(shape, density, seed=0):
    random = np.random.default_rng(seed)
    return (random.random(shape) < density).astype(np.int32)


def picture(*rows):
    """int32 [1, H, W]: 1 where a row of text has a `#`."""
    pixels = [[character == "#" for character in row] for row in rows]
    return np.array([pixels], np.int32)


def test_boxes_are_those_of_the_official_contours():
    data = golden.load("cct_perturbations")
    expected = [[], [], []]
    for image, _, left, right, top, bottom in data["contours"]:
        expected[image].append((top, left, bottom + 1, right + 1))
    boxes = components.object_boxes(
        data["pred_class"], max_objects=5, outermost=True
    )
    assert found(boxes) == [sorted(image) for image in expected]
    # The second image has an object in the hole of another.
    boxes = components.object_boxes(data["pred_class"], max_objects=5)
    assert len(found(boxes)[1]) == len(expected[1]) + 1
    assert found(boxes) == oracle(data["pred_class"])


@pytest.mark.parametrize("density", [0.1, 0.25, 0.4, 0.6])
@pytest.mark.parametrize(
    "shape", [(2, 24, 24), (3, 17, 30), (2, 12, 31), (4, 1, 9), (3, 8, 1)]
)
def test_agrees_with_oracle_on_noise(shape, density):
    classes = noise(shape, density, seed=shape[2])
    boxes = components.object_boxes(classes, max_objects=300)
    assert found(boxes) == oracle(classes)


def spiral(size):
    """Two arms that wind around each other, one of them in the object."""
    rows, columns = np.mgrid[:size, :size] - size / 2
    turn = np.arctan2(rows, columns) / (2 * np.pi)
    inside = (np.hypot(rows, columns) / 6 - turn) % 1 < 0.5
    return inside[np.newaxis].astype(np.int32)


def snake(size):
    """One pixel wide, through every second row."""
    classes = np.zeros([1, size, size], np.int32)
    classes[:, ::2] = 1
    classes[:, 1::4, -1] = 1
    classes[:, 3::4, 0] = 1
    return classes


@pytest.mark.parametrize(
    "xla,classes",
    [
        (False, spiral(96)),
        (True, snake(63)),
        (True, noise((2, 40, 50), 0.3)),
    ],
    ids=["spiral", "snake", "noise"],
)
def test_agrees_with_oracle_compiled(xla, classes):
    run = tf.function(
        lambda x: components.object_boxes(x, max_objects=200), jit_compile=xla
    )
    assert found(run(tf.constant(classes))) == oracle(classes)


@pytest.mark.parametrize("classes", [spiral(256), snake(255)])
def test_few_iterations_suffice(classes, monkeypatch):
    counts = []

    def loop(goes_on, step, state):
        counts.append(0)
        while goes_on(*state):
            state = step(*state)
            counts[-1] += 1
        return state

    monkeypatch.setattr(tf, "while_loop", loop)
    components.object_boxes(classes, max_objects=1)
    assert len(counts) == 1 and 5 < counts[0] <= 10


@pytest.mark.parametrize("value", [0, 1])
def test_constant_prediction(value):
    boxes = components.object_boxes(
        np.full([2, 6, 9], value, np.int32), max_objects=2
    )
    expected = [[[0, 0, 6 * value, 9 * value], [0, 0, 0, 0]]] * 2
    np.testing.assert_array_equal(boxes, expected)


def test_borders_do_not_touch_each_other():
    # The right end of a row and the left end of the next one; the bottom of
    # an image and the top of the next one.
    classes = np.zeros([2, 4, 6], np.int32)
    classes[:, ::3] = 1
    classes[0, 1:3, ::5] = 1
    classes[0, :, 2:4] = 0
    boxes = components.object_boxes(classes, max_objects=4)
    assert found(boxes) == oracle(classes)
    assert [len(image) for image in found(boxes)] == [2, 2]


def test_corners_touch_and_classes_do_not_matter():
    classes = picture("#...", ".#..", "..#.", "...#")
    classes[0, 2, 2] = 20
    boxes = components.object_boxes(classes, max_objects=1)
    np.testing.assert_array_equal(boxes, [[[0, 0, 4, 4]]])


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32])
def test_logits_are_as_classes(dtype):
    classes = noise((2, 9, 11), 0.3) * 2
    logits = tf.one_hot(classes, 4, dtype=dtype)
    np.testing.assert_array_equal(
        components.foreground(logits), components.foreground(classes)
    )
    np.testing.assert_array_equal(
        components.object_boxes(logits, max_objects=40),
        components.object_boxes(classes, max_objects=40),
    )


def test_a_tie_of_logits_is_no_object():
    logits = np.array([[[[1.0, 1, 0], [0, 1, 1], [-1, -2, -1]]]])
    np.testing.assert_array_equal(
        components.foreground(logits), [[[False, True, False]]]
    )


@pytest.mark.parametrize("count", [1, 3, 7])
def test_of_many_objects_the_largest_boxes_stay(count):
    classes = noise((2, 20, 21), 0.2)
    boxes = components.object_boxes(classes, max_objects=count)
    assert boxes.shape == (2, count, 4)
    for image, every in zip(boxes, oracle(classes)):
        largest = sorted(perimeters(every))[::-1][:count]
        np.testing.assert_array_equal(perimeters(image), largest)
        assert set(found([image])[0]) <= set(every)


def test_of_equal_objects_the_first_stay():
    classes = picture("#..#", "....", "....", "#..#")
    boxes = components.object_boxes(classes, max_objects=3)
    expected = [[0, 0, 1, 1], [0, 3, 1, 4], [3, 0, 4, 1]]
    np.testing.assert_array_equal(boxes[0], expected)


def test_small_objects_are_left_out():
    classes = picture("##..#", "....#", "....#", "#....", "##.##")
    # Perimeters 6, 8, 8 and 6.
    boxes = components.object_boxes(classes, max_objects=5, min_perimeter=8)
    expected = [[0, 4, 3, 5], [3, 0, 5, 2]]
    np.testing.assert_array_equal(boxes[0, :2], expected)
    np.testing.assert_array_equal(boxes[0, 2:], 0)


def test_outermost_leaves_out_what_is_inside_of_a_box():
    ring = picture("#####.", "#...#.", "#.#.#.", "#...#.", "#####.", "......")
    bay = picture("######", "#.....", "#..#..", "#.....", "######", "......")
    # The box of the second object reaches the border of the first one's.
    side = picture("######", "#.....", "#...##", "#.....", "######", "......")
    classes = np.concatenate([ring, bay, side])
    every = components.object_boxes(classes, max_objects=3)
    outer = components.object_boxes(classes, max_objects=3, outermost=True)
    assert [len(image) for image in found(every)] == [2, 2, 2]
    assert [len(image) for image in found(outer)] == [1, 1, 2]
    np.testing.assert_array_equal(outer[:, 0], every[:, 0])


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", [(24, 24), (23, 32)])
def test_stride_samples_the_prediction(stride, size):
    classes = noise((2, *size), 0.3)
    run = {"max_objects": 60, "stride": stride}
    expected = oracle(classes, stride)
    assert found(components.object_boxes(classes, **run)) == expected
    logits = tf.one_hot(classes, 2)
    assert found(components.object_boxes(logits, **run)) == expected


def test_traced_once_for_all_sizes():
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.uint8)])
    def run(classes):
        traces.append(1)
        boxes = components.object_boxes(classes, max_objects=50)
        assert boxes.shape.as_list() == [None, 50, 4]
        return boxes

    for shape in ((2, 11, 12), (1, 14, 7), (3, 2, 2)):
        classes = noise(shape, 0.3).astype(np.uint8)
        assert found(run(classes)) == oracle(classes)
    assert len(traces) == 1


def test_static_shape():
    graph = tf.function(lambda x: components.object_boxes(x, max_objects=7))
    shapes = graph.get_concrete_function(tf.TensorSpec([3, 8, 9], tf.int32))
    assert shapes.output_shapes == (3, 7, 4)


def test_bad_arguments_are_refused(monkeypatch):
    classes = np.zeros([2, 8, 8], np.int32)
    for wrong in ({"max_objects": 0}, {"stride": 0}, {"min_perimeter": -1}):
        name, value = next(iter(wrong.items()))
        with pytest.raises(ValueError, match=f"{name}={value}"):
            components.object_boxes(classes, **{"max_objects": 1} | wrong)
    with pytest.raises(ValueError, match="`prediction`.*rank 2"):
        components.object_boxes(classes[0], max_objects=1)
    monkeypatch.setattr(components, "_MOST_BLOCKS", 49)
    with pytest.raises(ValueError, match="more than 49 blocks.*2, 5, 5"):
        components.object_boxes(classes, max_objects=1)
