# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tensorflow as tf

from tfseg import report
from tfseg.datasets import base as datasets

INFO = datasets.Info(
    name="two",
    class_names=("ground", "thing"),
    palette=((10, 20, 30), (200, 100, 0)),
)


def _predictor(images):
    """Says `thing` with 3/4 where the image is bright."""
    bright = tf.cast(images[..., :1] > 127, tf.float32)
    return tf.concat([0.75 - bright / 2, 0.25 + bright / 2], -1)


def test_colors_are_the_palette_and_ignored_is_white():
    colors = report.colorize(np.array([[0, 1, 255]]), INFO)
    np.testing.assert_array_equal(
        colors, [[(10, 20, 30), (200, 100, 0), (255, 255, 255)]]
    )


def _example(height, width):
    image = np.zeros((1, height, width, 3), np.uint8)
    image[:, :, : width // 2] = 255
    label = (image[..., 0] > 127).astype(np.int32)
    return tf.constant(image), tf.constant(label)


def test_strip_is_input_truth_prediction_confidence():
    examples = [_example(4, 6), _example(3, 6)]
    first, second = report.pictures(_predictor, examples, INFO)
    assert first.shape == (4, 24, 3)
    image, label = examples[0]
    np.testing.assert_array_equal(first[:, :6], image[0])
    truth = report.colorize(label[0], INFO)
    np.testing.assert_array_equal(first[:, 6:12], truth)
    np.testing.assert_array_equal(first[:, 12:18], truth)
    np.testing.assert_array_equal(first[:, 18:], 191)
    np.testing.assert_array_equal(second[3], 255)


def test_large_photographs_are_thinned_out():
    (strip,) = report.pictures(_predictor, [_example(1030, 600)], INFO)
    # Every third pixel: 1030 / 512 is above 2.
    assert strip.shape == (344, 800, 3)


def test_comparison_has_a_row_an_image_and_a_column_a_predictor():
    picture = report.comparison(
        [_example(4, 6)] * 3, {"a": _predictor, "b": _predictor}, INFO, panel=20
    )
    assert picture.size == (4 * 24, 3 * 24 + 16)
    # Left half of the third row: truth and both predictions are `thing`.
    for column in (1, 2, 3):
        assert picture.getpixel((column * 24 + 3, 2 * 24 + 20)) == (200, 100, 0)
