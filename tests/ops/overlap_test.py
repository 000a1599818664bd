# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.ops import overlap

CALLS = pytest.mark.parametrize(
    "wrap",
    [lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)],
)
FLIPS = list(itertools.product([False, True], repeat=2))


def _matrix(offset, flips, size):
    """First crop to second, from an offset (y, x) and left-right flips."""
    mirror = np.array([[-1, 0, size[1] - 1], [0, 1, 0], [0, 0, 1]])
    move = np.array([[1, 0, -offset[1]], [0, 1, -offset[0]], [0, 0, 1]])
    first, second = (mirror if flip else np.eye(3) for flip in flips)
    return (second @ move @ first).astype(np.float32)


def _find(offset, flips, size, stride, **valid):
    """Of one image, as arrays without the axis of the batch."""
    whole = np.ones((1, *size), bool)
    found = overlap.find(
        _matrix(offset, flips, size)[None],
        valid.get("first", whole),
        valid.get("second", whole),
        stride=stride,
    )
    return found.index[0].numpy(), found.inside[0].numpy()


def _unflip(x, flips):
    """Each image of the batch as it is before its flip."""
    return np.stack([y[:, ::-1] if f else y for y, f in zip(x, flips)])


def _rectangle(mask):
    """(top, left, bottom, right) of a mask that must be one rectangle."""
    rows, columns = np.nonzero(mask)
    box = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    assert mask.sum() == (box[2] - box[0]) * (box[3] - box[1])
    return box


@CALLS
def test_agrees_with_the_official_gathering(wrap):
    gold = golden.load("cac_overlap")
    flips = gold["flip"]
    matrix = np.stack(
        [
            _matrix(offset, flip, (64, 64))
            for offset, flip in zip(gold["ul1"] - gold["ul2"], flips)
        ]
    )
    whole = tf.ones([3, 64, 64], tf.bool)

    def gather(*maps):
        found = overlap.find(tf.constant(matrix), whole, whole, stride=8)
        return found.inside, *(overlap.align(x, found.index) for x in maps)

    seconds = [gold[f"{name}2"] for name in ("feat", "lab", "conf")]
    inside, *aligned = wrap(gather)(*map(tf.constant, seconds))
    inside = _unflip(inside.numpy(), flips[:, 0])
    for name, second in zip(("feat", "lab", "conf"), aligned):
        first = gold[f"{name}1"]
        assert second.dtype == first.dtype and second.shape == first.shape
        for i, x in enumerate((first, second.numpy()), 1):
            x = _unflip(x, flips[:, 0])[inside]
            np.testing.assert_array_equal(x, gold[f"out_{name}{i}"])


def test_agrees_with_the_official_rectangles():
    """Of padded images as well."""
    rows = golden.load("cac_pairs")["rows"]
    first, second, flips = rows[:, 15:19], rows[:, 19:23], rows[:, 23:] > 0
    offset = first[:, :2] - second[:, :2]
    matrix = [_matrix(*pair, (320, 320)) for pair in zip(offset, flips)]
    valid = []
    for corner, flip in zip((0, offset), flips.T):
        pixel = np.arange(320) + (rows[:, 11:9:-1] + corner)[..., None]
        down, right = np.moveaxis(pixel < rows[:, 4:6, None], 1, 0)
        valid.append(_unflip(down[:, :, None] & right[:, None], flip))
    assert (~np.all(valid, (0, 2, 3))).sum() > 15
    found = overlap.find(np.stack(matrix), *valid, stride=8)
    inside = found.inside.numpy()
    partners = np.zeros_like(inside)
    for mask, index, here in zip(partners, found.index.numpy(), inside):
        mask.flat[index[here]] = True
    for masks, flip, official in zip(
        (inside, partners), flips.T, (first, second)
    ):
        boxes = [_rectangle(mask) for mask in _unflip(masks, flip)]
        np.testing.assert_array_equal(boxes, official // 8)


def test_known_rectangles():
    index, inside = _find((-40, 80), (False, False), (320, 320), 8)
    assert _rectangle(inside) == (0, 10, 35, 40)
    assert inside.sum() == 35 * 30
    assert index[0, 10] == 5 * 40 and index[34, 39] == 39 * 40 + 29
    index, inside = _find((-40, 80), (True, False), (320, 320), 8)
    assert _rectangle(inside) == (0, 0, 35, 30)
    assert index[0, 29] == 5 * 40


def _turns(size):
    """All eight ways to flip a square crop and to swap its axes."""
    flips = np.tile(np.eye(3), (3, 1, 1))
    flips[0, 0, [0, 2]] = flips[1, 1, [1, 2]] = -1, size - 1
    flips[2, :2] = flips[2, [1, 0]]
    turns = [np.eye(3)]
    for flip in flips:
        turns += [flip @ turn for turn in turns]
    return turns


def _crop(image, top, left, turn, size):
    """A crop of which `turn` gives the pixels after it was turned."""
    rows, columns = np.mgrid[:size, :size]
    points = np.stack([columns, rows, np.ones_like(rows)])
    source = np.einsum("ij,jhw->ihw", np.linalg.inv(turn), points)
    x, y = np.rint(source[:2]).astype(int)
    return image[y + top, x + left]


@CALLS
@pytest.mark.parametrize("stride", [1, 3])
def test_partners_show_the_same_place(wrap, stride):
    """Also mirrored upside down, with swapped axes and without an overlap."""
    size, image = 24, 500.0 * np.arange(110)[:, None] + np.arange(110)
    rng = np.random.default_rng(0)
    matrices, crops = [], []
    for i, (first, second) in enumerate(
        itertools.product(_turns(size), repeat=2)
    ):
        corner = rng.integers(30, 60, 2)
        # Now and then all of the crop.
        offset = 6 * rng.integers(-4, 5, 2) * bool(i % 8)
        move = np.eye(3)
        move[:2, 2] = -offset[::-1]
        matrices.append(second @ move @ np.linalg.inv(first))
        crops.append(_crop(image, *corner, first, size))
        crops.append(_crop(image, *(corner + offset), second, size))
    cells = np.reshape(
        crops, (64, 2, size // stride, stride, size // stride, stride)
    ).mean((3, 5), dtype=np.float32)
    first, second = cells[:, 0], cells[:, 1]
    whole = tf.ones([64, size, size], tf.bool)
    found = wrap(lambda m: overlap.find(m, whole, whole, stride=stride))(
        tf.constant(np.stack(matrices), tf.float32)
    )
    inside = found.inside.numpy()
    aligned = overlap.align(second, found.index).numpy()
    np.testing.assert_array_equal(aligned[inside], first[inside])
    for ours, one, other in zip(inside, first, second):
        np.testing.assert_array_equal(ours, np.isin(one, other))
    assert {0, 1} < set(inside.mean((1, 2)).tolist())


@pytest.mark.parametrize("flips", FLIPS)
def test_padding_of_either_crop_is_outside(flips):
    first, second = np.ones((2, 1, 8, 16), bool)
    first[0, 2, 5] = False
    _, inside = _find((0, 0), flips, (8, 16), 4, first=first)
    assert inside.sum() == 7 and not inside[0, 1]
    second[0, 7, 0] = False
    _, inside = _find((0, 0), flips, (8, 16), 4, second=second)
    assert inside.sum() == 7 and not inside[1, 3 * (flips[0] != flips[1])]
    _, inside = _find((0, 0), flips, (8, 16), 4, second=~first & second)
    assert not inside.any()


def test_positions_that_meet_in_part_are_outside():
    for offset in ((0, 8), (8, 0), (-8, 16)):
        assert not _find(offset, (True, False), (32, 48), 16)[1].any()
    assert _find((16, -16), (True, False), (32, 48), 16)[1].sum() == 2
    assert not _find((32, 0), (False, False), (32, 48), 16)[1].any()


@CALLS
@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
def test_gradient_reaches_the_partners_alone(wrap, dtype):
    matrix = _matrix((0, 4), (True, False), (8, 8))[None]
    whole = tf.ones([1, 8, 8], tf.bool)
    upstream = tf.cast(tf.reshape(tf.range(1, 9), [1, 2, 2, 2]), dtype)

    def gradient(x):
        found = overlap.find(matrix, whole, whole, stride=4)
        with tf.GradientTape() as tape:
            tape.watch(x)
            aligned = overlap.align(x, found.index)
            kept = tf.where(found.inside[..., None], aligned * upstream, 0)
            value = tf.reduce_sum(kept)
        return aligned, tf.convert_to_tensor(tape.gradient(value, x))

    x = tf.zeros([1, 2, 2, 2], dtype)
    aligned, gradient = wrap(gradient)(x)
    assert aligned.dtype == gradient.dtype == dtype
    # The first crop's left half, mirrored, is the second one's left half.
    np.testing.assert_array_equal(gradient[0, :, 0], upstream[0, :, 0])
    assert not gradient[0, :, 1].numpy().any()


def test_keeps_static_shapes():
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 3, 3]),
            tf.TensorSpec([None, 16, 24], tf.bool),
            tf.TensorSpec([None, 2, 3, 5], tf.bfloat16),
        ]
    )
    def run(matrix, valid, x):
        found = overlap.find(matrix, valid, valid, stride=8)
        aligned = overlap.align(x, found.index)
        assert found.index.shape[1:] == found.inside.shape[1:] == [2, 3]
        assert aligned.shape[1:] == [2, 3, 5] and aligned.dtype == x.dtype
        return aligned

    x = tf.cast(tf.random.stateless_normal([2, 2, 3, 5], [1, 2]), tf.bfloat16)
    for batch in (2, 1, 0):
        eye = tf.eye(3, batch_shape=[batch])
        same = run(eye, tf.ones([batch, 16, 24], tf.bool), x[:batch])
        assert (same == x[:batch]).numpy().all() and len(same) == batch


def test_wrong_input_is_named():
    eye, valid = np.eye(3)[None], np.ones((1, 12, 16), bool)
    with pytest.raises(ValueError, match="`first_valid`.*multiple of `stride`"):
        overlap.find(eye, valid, valid, stride=8)
    with pytest.raises(ValueError, match="`second_valid` must have rank 3"):
        overlap.find(eye, valid, valid[0])
    with pytest.raises(ValueError, match="`matrix` must have rank 3"):
        overlap.find(eye[0], valid, valid)
    index = overlap.find(eye, valid, valid, stride=4).index
    with pytest.raises(
        ValueError, match=r"`x`.*\(3, 4\). Received: \(12, 16\)"
    ):
        overlap.align(valid, index)
    with pytest.raises(ValueError, match="`x` must have rank 3 or 4"):
        overlap.align(valid[0], index)
