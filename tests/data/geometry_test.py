# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.data import geometry

PAD = (124, 116, 104)


def _image(height, width, seed=0):
    shape = (height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _matrix(top, left, factor, crop, flip):
    return geometry.window_matrix(
        *map(tf.constant, (float(top), float(left), float(factor))),
        crop=crop,
        flip=tf.constant(flip),
    )


def test_window_at_scale_one_is_an_exact_copy():
    image = _image(20, 30)
    matrix = _matrix(3, 5, 1, (8, 10), False)
    crop, valid = geometry.warp_image(
        image, matrix, crop=(8, 10), pad_color=PAD
    )
    np.testing.assert_array_equal(crop, image[3:11, 5:15])
    assert valid.numpy().all()


def test_flip_mirrors_image_label_and_validity():
    image = _image(6, 9)
    label = image[..., 0].astype(np.int32) % 5
    # One column of the window lies outside on the left.
    matrix = _matrix(0, -1, 1, (6, 9), True)
    crop, valid = geometry.warp_image(image, matrix, crop=(6, 9), pad_color=PAD)
    warped = geometry.warp_label(label, matrix, crop=(6, 9))
    expected = np.full((6, 9, 3), PAD, np.float32)
    expected[:, :8] = image[:, :8][:, ::-1]
    np.testing.assert_array_equal(crop, expected)
    np.testing.assert_array_equal(valid[:, 8], False)
    assert valid.numpy()[:, :8].all()
    np.testing.assert_array_equal(warped[:, :8], label[:, :8][:, ::-1])
    np.testing.assert_array_equal(warped[:, 8], 255)


def _bilinear_oracle(image, top, left, factor, crop):
    """Half-pixel bilinear sampling with repeated edges, in numpy."""
    out = np.zeros((*crop, 3))
    height, width = image.shape[:2]
    for row in range(crop[0]):
        for column in range(crop[1]):
            y = np.clip(top + (row + 0.5) / factor - 0.5, 0, height - 1)
            x = np.clip(left + (column + 0.5) / factor - 0.5, 0, width - 1)
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            a, b = y - y0, x - x0
            out[row, column] = (1 - a) * (
                (1 - b) * image[y0, x0] + b * image[y0, x1]
            ) + a * ((1 - b) * image[y1, x0] + b * image[y1, x1])
    return out


@pytest.mark.parametrize("factor", [0.5, 0.73, 1.6, 2.0])
def test_scaled_window_agrees_with_numpy(factor):
    image = _image(40, 50)
    crop = (12, 16)
    matrix = _matrix(4, 6, factor, crop, False)
    warped, valid = geometry.warp_image(image, matrix, crop=crop, pad_color=PAD)
    oracle = _bilinear_oracle(image.astype(float), 4, 6, factor, crop)
    assert valid.numpy().all()
    np.testing.assert_allclose(warped, oracle, atol=0.02)


def test_label_of_a_doubled_image_is_the_doubled_label():
    label = np.arange(20, dtype=np.int32).reshape(4, 5)
    matrix = _matrix(0, 0, 2, (8, 10), False)
    warped = geometry.warp_label(label, matrix, crop=(8, 10))
    np.testing.assert_array_equal(warped, label.repeat(2, 0).repeat(2, 1))


def test_small_image_is_held_whole_and_padded_invalid():
    image = _image(5, 7)
    for seed in range(20):
        matrix = geometry.random_window(
            tf.constant([5, 7]),
            tf.constant([seed, 1]),
            crop=(16, 16),
            scale=(1.0, 1.0),
            flip_rate=0.0,
        )
        crop, valid = geometry.warp_image(
            image, matrix, crop=(16, 16), pad_color=PAD
        )
        assert valid.numpy().sum() == 35
        inside = crop.numpy()[valid.numpy()].reshape(5, 7, 3)
        np.testing.assert_array_equal(inside, image)
        outside = crop.numpy()[~valid.numpy()]
        np.testing.assert_array_equal(outside, np.broadcast_to(PAD, (221, 3)))


def test_random_windows_stay_inside_and_cover_the_scales():
    scales, tops = [], []
    for seed in range(300):
        matrix = geometry.random_window(
            tf.constant([100, 120]),
            tf.constant([seed, 0]),
            crop=(32, 32),
            scale=(0.5, 2.0),
            flip_rate=0.5,
        ).numpy()
        valid = geometry.inside(
            tf.constant([100, 120]), tf.constant(matrix), crop=(32, 32)
        )
        assert valid.numpy().all()
        scales.append(1 / matrix[1, 1])
        tops.append(matrix[1, 2])
    assert 0.5 <= min(scales) < 0.53 and 1.9 < max(scales) <= 2.0
    # Log-uniform: as many below 1 as above. 300 draws, 5 sigma = 0.14.
    assert abs(np.mean(np.array(scales) < 1) - 0.5) < 0.14
    assert min(tops) < 2 and max(tops) > 50


def test_graph_agrees_with_eager():
    image = _image(23, 31)

    @tf.function
    def graph(image, seed):
        matrix = geometry.random_window(
            tf.shape(image)[:2],
            seed,
            crop=(16, 12),
            scale=(0.5, 2.0),
            flip_rate=0.5,
        )
        return geometry.warp_image(image, matrix, crop=(16, 12), pad_color=PAD)

    seed = tf.constant([3, 4])
    matrix = geometry.random_window(
        tf.constant([23, 31]),
        seed,
        crop=(16, 12),
        scale=(0.5, 2.0),
        flip_rate=0.5,
    )
    eager = geometry.warp_image(image, matrix, crop=(16, 12), pad_color=PAD)
    for one, other in zip(graph(image, seed), eager):
        np.testing.assert_array_equal(one, other)


def test_one_pixel_image():
    matrix = geometry.random_window(
        tf.constant([1, 1]),
        tf.constant([0, 0]),
        crop=(4, 4),
        scale=(2.0, 2.0),
        flip_rate=0.5,
    )
    crop, valid = geometry.warp_image(
        np.full((1, 1, 3), 9, np.uint8), matrix, crop=(4, 4), pad_color=PAD
    )
    assert valid.numpy().sum() == 4
    np.testing.assert_array_equal(crop.numpy()[valid.numpy()], 9)
