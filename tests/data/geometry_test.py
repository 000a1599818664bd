# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg import config as config_lib
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
    @tf.function
    def draw(seed):
        size = tf.constant([100, 120])
        matrix = geometry.random_window(
            size, seed, crop=(32, 32), scale=(0.5, 2.0), flip_rate=0.5
        )
        return matrix, geometry.inside(size, matrix, crop=(32, 32))

    scales, tops = [], []
    for seed in range(300):
        matrix, valid = (x.numpy() for x in draw(tf.constant([seed, 0])))
        assert valid.all()
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


def _turn(angle=0.0, flip=False, vertical_flip=False, transpose=False):
    return geometry.Turn(
        tf.constant(angle), flip, vertical_flip, tf.constant(transpose)
    )


@pytest.mark.parametrize(
    "crop, scale", [((8, 6), (0.5, 2.0)), ((5, 5), (1, 1))]
)
def test_without_turns_the_draws_are_those_before_there_were_turns(crop, scale):
    """Published measurements depend on it: equal to the bit."""
    for number in range(12):
        seed = tf.constant([number, 3])
        size = tf.constant([20 + number, 31])
        draw = tf.random.stateless_uniform([4], seed)
        low, high = (tf.math.log(float(x)) for x in scale)
        factor = tf.exp(low + draw[0] * (high - low))
        room = (
            tf.cast(size, tf.float32) - tf.constant(crop, tf.float32) / factor
        )
        options = dict(crop=crop, scale=scale, flip_rate=0.5)
        expected = geometry.window_matrix(
            *tf.unstack(tf.round(draw[1:3] * room)),
            factor,
            crop=crop,
            flip=draw[3] < 0.5,
        )
        drawn = geometry.random_window(size, seed, **options)
        np.testing.assert_array_equal(drawn, expected)
        turned = geometry.random_window(size, seed, **options, rotation=1e-9)
        np.testing.assert_allclose(turned, expected, atol=1e-4)


@pytest.mark.parametrize("number", range(8))
def test_flips_and_transposition_agree_with_numpy(number):
    flip, vertical_flip, transpose = (bool(number >> i & 1) for i in range(3))
    image = _image(9, 12)
    label = image[..., 0].astype(np.int32) % 5
    matrix = geometry.turned_window(
        2.0, 3.0, 1.0, _turn(0.0, flip, vertical_flip, transpose), crop=(6, 6)
    )
    expected = image[2:8, 3:9]
    expected = expected[:, ::-1] if flip else expected
    expected = expected[::-1] if vertical_flip else expected
    expected = expected.swapaxes(0, 1) if transpose else expected
    crop, valid = geometry.warp_image(image, matrix, crop=(6, 6), pad_color=PAD)
    np.testing.assert_array_equal(crop, expected)
    assert valid.numpy().all()
    warped = geometry.warp_label(label, matrix, crop=(6, 6))
    np.testing.assert_array_equal(warped, expected[..., 0] % 5)


def test_quarter_turn_is_rot90_and_non_square_crops_turn_about_the_center():
    image = _image(7, 7)
    matrix = geometry.turned_window(
        0.0, 0.0, 1.0, _turn(np.float32(np.pi / 2)), crop=(7, 7)
    )
    crop, _ = geometry.warp_image(image, matrix, crop=(7, 7), pad_color=PAD)
    np.testing.assert_allclose(crop, np.rot90(image), atol=0.01)
    # Upside down: the one turn that leaves a rectangle where it is.
    image = _image(4, 9)
    matrix = geometry.turned_window(
        0.0, 0.0, 1.0, _turn(np.float32(np.pi)), crop=(4, 9)
    )
    crop, _ = geometry.warp_image(image, matrix, crop=(4, 9), pad_color=PAD)
    np.testing.assert_allclose(crop, image[::-1, ::-1], atol=0.01)


@pytest.mark.parametrize("crop", [(24, 24), (12, 30)])
def test_turned_crop_needs_all_four_corners_and_is_padded_outside(crop):
    # Linear in x and y, so that bilinear interpolation is exact.
    rows, columns = np.mgrid[:40, :50]
    image = np.stack([5 * columns, 6 * rows, rows + columns], -1)
    angles, outside = [], 0
    for number in range(25):
        matrix = geometry.random_window(
            tf.constant([40, 50]),
            tf.constant([number, 5]),
            crop=crop,
            scale=(0.8, 1.25),
            flip_rate=0.5,
            rotation=45.0,
        ).numpy()
        warped, valid = geometry.warp_image(
            image.astype(np.uint8), matrix, crop=crop, pad_color=PAD
        )
        y, x = np.mgrid[: crop[0], : crop[1]]
        x, y = np.einsum("ij,jhw->ihw", matrix[:2], [x, y, np.ones(crop)])
        expected = (-0.5 <= x) & (x <= 49.5) & (-0.5 <= y) & (y <= 39.5)
        assert (expected != valid.numpy()).sum() == 0
        x, y = x.clip(0, 49), y.clip(0, 39)
        linear = np.where(
            expected[..., None], np.stack([5 * x, 6 * y, x + y], -1), PAD
        )
        np.testing.assert_allclose(warped, linear, atol=0.02)
        label = geometry.warp_label(image[..., 2], matrix, crop=crop).numpy()
        assert (label[~expected] == 255).all()
        assert np.abs(label - linear[..., 2])[expected].max() < 1.01
        outside += (~expected).sum()
        linear = matrix[:2, :2] / np.sqrt(abs(np.linalg.det(matrix)))
        angles.append(np.degrees(np.arctan2(-linear[0, 1], linear[1, 1])))
    assert outside > 0
    assert -45 <= min(angles) < -30 and 30 < max(angles) <= 45


def test_rates_of_flips_and_turns():
    @tf.function(autograph=False)
    def draw(rates):
        def one(number):
            return geometry.random_window(
                tf.constant([9, 9]),
                tf.stack([number, 1]),
                crop=(9, 9),
                scale=(1, 1),
                **dict(rates),
            )

        numbers = tf.range(400)
        return tf.map_fn(one, numbers, fn_output_signature=tf.float32)

    def drawn(**rates):
        rates = {"flip_rate": 0.0, **rates}
        return draw(tuple(rates.items()))[:, :2, :2].numpy()

    # 400 draws, 5 sigma = 0.125 at a rate of 0.5.
    only = drawn(vertical_flip_rate=0.5)
    assert abs(only[:, 1, 1].mean()) < 0.25 and (only[:, 0, 0] == 1).all()
    only = drawn(transpose_rate=0.5)
    assert abs(only[:, 0, 1].mean() - 0.5) < 0.125
    np.testing.assert_array_equal(only[:, 0, 1], 1 - only[:, 0, 0])
    both = drawn(flip_rate=0.5, vertical_flip_rate=0.5)
    assert abs((both[:, 0, 0] * both[:, 1, 1]).mean()) < 0.25
    always = drawn(flip_rate=1.0, vertical_flip_rate=1.0, transpose_rate=1.0)
    assert (always == [[0, -1], [-1, 0]]).all()


def test_transposition_needs_a_square_crop():
    config = config_lib.base_config()
    config.data.transpose_rate = 0.5
    config_lib.validate(config)
    config.data.crop = (4, 8)
    with pytest.raises(
        ValueError, match="transpose_rate` needs a square.*4 x 8"
    ):
        config_lib.validate(config)
    config.data.transpose_rate = 0.0
    config_lib.validate(config)


@pytest.mark.parametrize(
    "field, value",
    [
        ("rotation", -1.0),
        ("rotation", 181.0),
        ("vertical_flip_rate", 1.5),
        ("transpose_rate", -0.5),
        ("pair_offset", -1),
        ("pair_teacher", "same"),
    ],
)
def test_wrong_option_is_named(field, value):
    config = config_lib.base_config()
    config.data[field] = value
    with pytest.raises(ValueError, match=f"`config.data.{field}` must be"):
        config_lib.validate(config)


@pytest.mark.parametrize("crop", [(48, 40), (9, 11)])
def test_an_upright_window_is_the_warp_without_a_rotation(crop):
    random = np.random.default_rng(3)
    image = tf.constant(random.integers(0, 256, (37, 53, 3)), tf.uint8)
    label = tf.constant(random.integers(0, 21, (37, 53)), tf.int32)

    @tf.function
    def both(seed):
        matrix = geometry.random_window(
            tf.constant([37, 53]),
            seed,
            crop=crop,
            scale=(0.4, 2.5),
            flip_rate=0.5,
        )
        return [
            (
                *geometry.warp_image(
                    image, matrix, crop=crop, pad_color=(1, 2, 3), upright=way
                ),
                geometry.warp_label(label, matrix, crop=crop, upright=way),
            )
            for way in (False, True)
        ]

    padded = 0
    for seed in range(60):
        expected, found = both(tf.constant([seed, 5]))
        np.testing.assert_allclose(found[0], expected[0], atol=2e-3)
        for a, b in zip(found[1:], expected[1:]):
            np.testing.assert_array_equal(a, b)
        padded += not tf.reduce_all(found[1])
    # The small crop lies inside of the image whatever the scale.
    assert (padded > 0) == (crop == (48, 40))
