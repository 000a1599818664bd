# SPDX-License-Identifier: Apache-2.0
import colorsys

import numpy as np
import tensorflow as tf

from tfseg.data import photometric

OFF = dict(
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_rate=0.0,
    gray_rate=0.0,
    blur_rate=0.0,
    blur_sigma=(0.1, 2.0),
)


def _image(height=6, width=7):
    shape = (height, width, 3)
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def _strong(image, seed, **options):
    return photometric.strong(
        tf.constant(image), tf.constant([seed, 0]), **{**OFF, **options}
    ).numpy()


def test_all_rates_zero_change_nothing():
    np.testing.assert_array_equal(_strong(_image(), 1), _image())


def test_gray_has_equal_channels_of_known_luma():
    image = np.full((2, 2, 3), (100.0, 50.0, 200.0), np.float32)
    # 0.299 * 100 + 0.587 * 50 + 0.114 * 200 = 82.05
    gray = _strong(image, 3, gray_rate=1.0)
    np.testing.assert_allclose(gray, 82.05, rtol=1e-5)


def test_jitter_of_one_kind_matches_its_formula():
    image = _image()
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    for seed in range(5):
        bright = _strong(image, seed, jitter_rate=1.0, jitter=(0.4, 0, 0, 0))
        bulk = (bright > 0) & (bright < 255)
        factor = (bright / image)[bulk]
        assert 0.6 <= factor.min() and factor.max() <= 1.4
        np.testing.assert_allclose(factor, factor.mean(), rtol=1e-3)
        saturated = _strong(image, seed, jitter_rate=1.0, jitter=(0, 0, 0.4, 0))
        ratio = (saturated - luma[..., None]) / (image - luma[..., None])
        bulk = (saturated > 0) & (saturated < 255)
        np.testing.assert_allclose(
            ratio[bulk], np.median(ratio[bulk]), rtol=2e-2
        )


def test_hue_turns_as_colorsys_does():
    image = np.full((1, 1, 3), (200.0, 80.0, 40.0), np.float32)
    turned = _strong(image, 2, jitter_rate=1.0, jitter=(0, 0, 0, 0.1))[0, 0]
    before = colorsys.rgb_to_hsv(*(image[0, 0] / 255))
    after = colorsys.rgb_to_hsv(*(turned / 255))
    np.testing.assert_allclose(before[1:], after[1:], atol=1e-3)
    turn = (after[0] - before[0] + 0.5) % 1 - 0.5
    assert 1e-4 < abs(turn) <= 0.1


def test_blur_keeps_a_constant_and_the_mean_and_matches_numpy():
    flat = np.full((3, 4, 3), 77.0, np.float32)
    blurred = _strong(flat, 1, blur_rate=1.0)
    np.testing.assert_allclose(blurred, flat, rtol=1e-5)
    image = _image(20, 24)
    sigma = 1.5
    out = _strong(image, 1, blur_rate=1.0, blur_sigma=(sigma, sigma))
    offsets = np.arange(-4, 5)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(image, [[4, 4], [4, 4], [0, 0]], mode="edge")
    rows = sum(w * padded[i : i + 20] for i, w in enumerate(weights))
    oracle = sum(w * rows[:, i : i + 24] for i, w in enumerate(weights))
    np.testing.assert_allclose(out, oracle, rtol=1e-4)


def test_blur_of_no_width_changes_nothing():
    blurred = _strong(_image(), 1, blur_rate=1.0, blur_sigma=(0, 0))
    np.testing.assert_allclose(blurred, _image(), atol=1e-3)


def test_rates_are_met_and_seeds_decide():
    image = _image(2, 2)

    @tf.function
    def draw(seeds):
        return tf.map_fn(
            lambda seed: photometric.strong(
                tf.constant(image),
                tf.stack([seed, 0]),
                **{**OFF, "gray_rate": 0.3},
            ),
            seeds,
            fn_output_signature=tf.float32,
        )

    changed = (draw(tf.range(300)).numpy() != image).any((1, 2, 3)).sum()
    # Binomial(300, 0.3): mean 90, 5 sigma = 40.
    assert 50 < changed < 130
    options = dict(jitter_rate=1.0, blur_rate=1.0)
    np.testing.assert_array_equal(
        _strong(image, 5, **options), _strong(image, 5, **options)
    )


def test_graph_agrees_with_eager():
    graph = tf.function(photometric.strong)
    options = {**OFF, "jitter_rate": 0.8, "gray_rate": 0.2, "blur_rate": 0.5}
    for seed in range(4):
        image, key = tf.constant(_image()), tf.constant([seed, 0])
        np.testing.assert_allclose(
            graph(image, key, **options),
            photometric.strong(image, key, **options),
            rtol=1e-4,
            atol=1e-2,
        )
