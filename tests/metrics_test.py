# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg import metrics

CALLS = pytest.mark.parametrize(
    "wrap",
    [lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)],
)


@CALLS
def test_confusion_matrix_agrees_with_official_code(wrap):
    data = golden.load("miou")
    matrix = wrap(lambda x, y: metrics.confusion_matrix(x, y, 6))(
        data["gt"], data["pred"]
    )
    assert matrix.dtype == tf.int64
    np.testing.assert_array_equal(matrix, data["cps_hist"])
    np.testing.assert_array_equal(matrix, data["cmx_cm"])


def test_scores_agree_with_official_code():
    data = golden.load("miou")
    skipped = metrics.summarize(data["cps_hist"])
    np.testing.assert_allclose(skipped["iou"], data["cps_iou"], rtol=1e-6)
    np.testing.assert_allclose(skipped["miou"], data["cps_miou"], rtol=1e-6)
    np.testing.assert_allclose(
        skipped["pixel_accuracy"], data["cps_pixacc"], rtol=1e-6
    )
    zero = metrics.summarize(data["cps_hist"], absent="zero")
    for name in ("cct", "cmx"):
        np.testing.assert_allclose(zero["iou"], data[f"{name}_iou"], rtol=1e-6)
        np.testing.assert_allclose(
            zero["miou"], data[f"{name}_miou"], rtol=1e-6
        )
    np.testing.assert_allclose(
        zero["pixel_accuracy"], data["cct_pixacc"], rtol=1e-6
    )


@CALLS
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_hand_value(wrap, dtype):
    label = np.array([[0, 0, 1], [1, 255, 0]], dtype)
    prediction = np.array([[0, 1, 1], [0, 2, 0]], np.int64)
    matrix = wrap(lambda x, y: metrics.confusion_matrix(x, y, 3))(
        label, prediction
    )
    # Rows true: 0 -> 0 twice, 1 once; 1 -> 1 once, 0 once; 255 not counted.
    expected = np.array([[2, 1, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(matrix, expected)
    # IoU 2 / 4 and 1 / 3; class 2 is absent. Accuracy 3 / 5.
    result = metrics.summarize(matrix.numpy())
    np.testing.assert_allclose(result["iou"], [1 / 2, 1 / 3, np.nan])
    np.testing.assert_allclose(result["miou"], 5 / 12)
    np.testing.assert_allclose(result["pixel_accuracy"], 3 / 5)
    result = metrics.summarize(expected, absent="zero")
    np.testing.assert_allclose(result["miou"], 5 / 18)


@pytest.mark.parametrize("absent", ["nan", "zero"])
def test_all_ignored(absent):
    matrix = metrics.confusion_matrix(
        tf.fill([2, 3], 255), tf.zeros([2, 3], tf.int32), 2
    )
    np.testing.assert_array_equal(matrix, np.zeros([2, 2]))
    result = metrics.summarize(matrix.numpy(), absent)
    assert np.isnan(result["miou"]) and np.isnan(result["pixel_accuracy"])


def test_does_not_depend_on_the_cut_into_batches():
    random = np.random.default_rng(0)
    label, prediction = random.integers(0, 4, [2, 6, 5, 5])
    parts = [
        metrics.confusion_matrix(label[i : i + 2], prediction[i : i + 2], 4)
        for i in (0, 2, 4)
    ]
    np.testing.assert_array_equal(
        sum(parts), metrics.confusion_matrix(label, prediction, 4)
    )


def test_more_pixels_than_int32_and_float32_hold():
    matrix = tf.constant([[2**31, 1], [0, 2**33 + 1]], tf.int64)
    one = metrics.confusion_matrix(tf.constant([0]), tf.constant([0]), 2)
    total = (matrix + one).numpy()
    assert total[0, 0] == 2**31 + 1
    result = metrics.summarize(total)
    assert result["iou"][0] == (2**31 + 1) / (2**31 + 2)
    assert result["pixel_accuracy"] == (2**31 + 2**33 + 2) / (2**31 + 2**33 + 3)


@pytest.mark.parametrize("label,prediction", [(3, 0), (-1, 0), (0, 3), (0, -1)])
def test_class_out_of_range_is_refused(label, prediction):
    with pytest.raises(tf.errors.InvalidArgumentError):
        metrics.confusion_matrix(
            tf.constant([label]), tf.constant([prediction]), 3
        )


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="nan, zero.*'skip'"):
        metrics.summarize(np.eye(2), absent="skip")
    with pytest.raises(ValueError, match="same shape"):
        metrics.confusion_matrix(np.zeros([2, 2]), np.zeros([2, 2, 1]), 3)
