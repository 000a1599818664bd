# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.ops.warp import warp

CALLS = pytest.mark.parametrize(
    "wrap",
    [lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)],
)
PAIRS = ["crop", "hung", "hungnu", "rot", "rotfree", "cropflip"]


def _bilinear(x, columns, rows):
    """Bilinear values of [H, W, C] in float64, zeros outside; loops."""
    height, width = x.shape[:2]
    out = np.zeros((*columns.shape, x.shape[2]))
    for place in np.ndindex(columns.shape):
        column, row = columns[place], rows[place]
        left, top = int(np.floor(column)), int(np.floor(row))
        for r in (top, top + 1):
            for c in (left, left + 1):
                if 0 <= r < height and 0 <= c < width:
                    weight = (1 - abs(column - c)) * (1 - abs(row - r))
                    out[place] += weight * x[r, c]
    return out


def _oracle(x, matrix):
    """Of one image, by pixel indices."""
    rows, columns = np.mgrid[: x.shape[0], : x.shape[1]].astype(float)
    points = np.stack([columns, rows, np.ones_like(rows)])
    source = np.einsum("ij,jhw->ihw", matrix[:2].astype(float), points)
    return _bilinear(x, *source)


def _grid_sample(x, theta):
    """As affine_grid and grid_sample, align_corners=True: in [-1, 1]."""
    height, width = x.shape[:2]
    y, x_grid = np.meshgrid(
        np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"
    )
    points = np.stack([x_grid, y, np.ones_like(y)])
    source = np.einsum("ij,jhw->ihw", theta.astype(float), points)
    columns = (source[0] + 1) / 2 * (width - 1)
    rows = (source[1] + 1) / 2 * (height - 1)
    return _bilinear(x, columns, rows)


def _moved(columns, rows):
    return np.array([[[1, 0, columns], [0, 1, rows], [0, 0, 1]]], np.float32)


def _random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@CALLS
def test_agrees_with_numpy(wrap):
    rng = np.random.default_rng(1)
    matrix = np.tile(np.eye(3), (6, 1, 1))
    matrix[:, :2] += rng.normal(size=(6, 2, 3)) * [0.4, 0.4, 3]
    x = _random((6, 7, 9, 3))
    warped = wrap(warp)(x, tf.constant(matrix, tf.float32))
    expected = [_oracle(*pair) for pair in zip(x, matrix)]
    np.testing.assert_allclose(warped, expected, atol=1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_agrees_with_official_matrices(name):
    gold = golden.load("affine_pairs")
    official = gold[f"{name}_xf01_cv"].astype(float)
    # Official: the teacher's pixels to the student's; ours goes back.
    matrix = np.stack(
        [np.linalg.inv(np.vstack([m, [0, 0, 1]])) for m in official]
    )
    side = 24 if name == "cropflip" else 32
    image = gold["image"][8:32, 16 : 16 + side].astype(np.float32)
    x = np.concatenate([image, 99 * _random((24, side, 2))], -1)
    warped = warp(np.stack([x] * len(matrix)), tf.constant(matrix, tf.float32))
    for ours, theta in zip(warped.numpy(), gold[f"{name}_xf01_torch"]):
        expected = _grid_sample(x, theta)
        assert (expected != 0).mean() > 0.3
        np.testing.assert_allclose(ours, expected, atol=0.02)


@CALLS
def test_fades_to_zero_over_the_last_pixel(wrap):
    shifts = np.array([-2, -1, -0.75, -0.25, 0, 0.25, 0.75, 1, 2])
    matrix = np.concatenate([_moved(shift, 0) for shift in shifts])
    across = wrap(warp)(tf.ones([9, 5, 5, 1]), matrix).numpy()[..., 0]
    matrix = np.concatenate([_moved(0, shift) for shift in shifts])
    down = wrap(warp)(tf.ones([9, 5, 5, 1]), matrix).numpy()[..., 0]
    np.testing.assert_array_equal(down, across.swapaxes(1, 2))
    first, last = np.clip(1 + shifts, 0, 1), np.clip(1 - shifts, 0, 1)
    np.testing.assert_array_equal(across[:, 2, 0], first)
    np.testing.assert_array_equal(across[:, 2, -1], last)
    np.testing.assert_array_equal(across.sum((1, 2)), 5 * (5 - abs(shifts)))


def test_whole_pixels_and_flips_are_exact():
    x = _random((1, 5, 5, 2))
    np.testing.assert_array_equal(warp(x, np.eye(3)[None]), x)
    moved = warp(x, _moved(2, -1)).numpy()
    np.testing.assert_array_equal(moved[:, 1:, :3], x[:, :4, 2:])
    assert (moved[:, 0] == 0).all() and (moved[:, :, 3:] == 0).all()
    flip = np.array([[[-1, 0, 4], [0, 1, 0], [0, 0, 1]]], np.float32)
    np.testing.assert_array_equal(warp(x, flip), x[:, :, ::-1])
    swap = np.array([[[0, 1, 0], [1, 0, 0], [0, 0, 1]]], np.float32)
    np.testing.assert_array_equal(warp(x, swap), x.swapaxes(1, 2))


def test_each_image_follows_its_own_matrix_and_may_be_of_any_shape():
    x = _random((2, 3, 8, 4))
    matrix = np.concatenate([_moved(0, 0), _moved(1.5, 0)])
    whole = warp(x, matrix)
    for i in range(2):
        alone = warp(x[i : i + 1], matrix[i : i + 1])
        np.testing.assert_array_equal(alone[0], whole[i])
    np.testing.assert_array_equal(warp(x[:, :1, :1], matrix)[0], x[0, :1, :1])
    assert warp(x[:0], matrix[:0]).shape == (0, 3, 8, 4)


@pytest.mark.parametrize("dtype", [tf.bool, tf.uint8, tf.float16, tf.bfloat16])
def test_validity_of_any_type_gives_float32(dtype):
    valid = np.ones([1, 4, 6])
    valid[0, :, 2] = 0
    x = tf.cast(valid, dtype)
    warped = warp(x, _moved(0.5, 0))
    assert warped.dtype == tf.float32 and warped.shape == (1, 4, 6)
    np.testing.assert_array_equal(warped[0, 0], [1, 0.5, 0.5, 1, 1, 0.5])
    np.testing.assert_array_equal(
        warped, warp(x[..., None], _moved(0.5, 0))[..., 0]
    )


def test_far_outside_is_zero():
    x = tf.ones([1, 3, 3, 1])
    for shift in (1e4, -1e4, 3e9, -3e9, 1e20):
        assert (warp(x, _moved(shift, 0)).numpy() == 0).all()


def test_gradient_is_the_transposed_warp():
    x, matrix = tf.constant(_random((1, 4, 5, 2))), _moved(0.25, -0.5)
    upstream = _random((1, 4, 5, 2), seed=3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(warp(x, matrix) * upstream)
    gradient = tape.gradient(value, x)
    back = warp(upstream, _moved(-0.25, 0.5))
    np.testing.assert_allclose(gradient, back, atol=1e-6)


def test_keeps_static_shapes_and_takes_unknown_ones():
    for shape in ([2, 3, 4, 5], [None, 3, 4, 5], [None, None, None, 5]):
        function = tf.function(warp).get_concrete_function(
            tf.TensorSpec(shape), tf.TensorSpec([None, 3, 3])
        )
        assert function.output_shapes.as_list() == shape
        x = _random((2, 3, 4, 5))
        matrix = np.concatenate([_moved(0.5, 0)] * 2)
        expected = warp(x, matrix)
        result = function(tf.constant(x), tf.constant(matrix))
        np.testing.assert_allclose(result, expected, atol=1e-6)


def test_wrong_ranks_are_named():
    with pytest.raises(ValueError, match="`x` must have rank 3 or 4"):
        warp(tf.zeros([4, 4]), np.eye(3)[None])
    with pytest.raises(ValueError, match="`matrix` must have rank 3"):
        warp(tf.zeros([1, 4, 4, 1]), np.eye(3))
