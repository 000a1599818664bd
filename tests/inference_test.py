# SPDX-License-Identifier: Apache-2.0
import functools
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg import inference

# A predictor takes all sizes with one trace.
_predictor = functools.lru_cache(maxsize=None)(inference.Predictor)


@pytest.fixture(scope="module")
def network():
    """Sees 5x5 pixels, of which borders are zero: windows differ."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Rescaling(1 / 64, input_shape=(None, None, 3)),
            keras.layers.Conv2D(6, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(4, 3, padding="same"),
        ]
    )


@pytest.fixture(name="pixelwise", scope="module")
def _pixelwise():
    """A network without neighborhood: windows must change nothing."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.layers.Rescaling(1 / 64, input_shape=(None, None, 3)),
            keras.layers.Conv2D(4, 1, padding="same"),
        ]
    )


def _images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def _ramp(window, stride):
    """Weights by their definition, one pixel at a time."""
    shared = window - stride
    weights = []
    for i in range(window):
        to_edge = min(i, window - 1 - i) + 1
        weights.append(min(to_edge / (shared + 1), 1.0))
    return np.array(weights)


def _starts(length, window, stride):
    starts = [0]
    while starts[-1] + window < length:
        starts.append(min(starts[-1] + stride, length - window))
    return starts


def _slide(network, image, window, stride):
    """Oracle of the sliding window over one image not below the window."""
    sums, weights = 0.0, 0.0
    ramp = np.outer(_ramp(window[0], stride[0]), _ramp(window[1], stride[1]))
    for top in _starts(image.shape[0], window[0], stride[0]):
        for left in _starts(image.shape[1], window[1], stride[1]):
            place = np.s_[top : top + window[0], left : left + window[1]]
            crop = image[place][None].astype(np.float32)
            weight = np.zeros([*image.shape[:2], 1])
            weight[place][..., 0] = ramp
            prob = np.zeros([*image.shape[:2], 4])
            prob[place] = _softmax(network(crop).numpy()[0])
            sums, weights = sums + prob * weight, weights + weight
    return sums / weights


def test_whole_image_is_the_softmax_of_the_network(network):
    images = _images(2, 9, 7, 3)
    prob = inference.Predictor(network)(images)
    assert prob.dtype == tf.float32
    expected = _softmax(network(images.astype(np.float32)).numpy())
    np.testing.assert_allclose(prob, expected, atol=1e-6)


def test_uint8_and_float_images_in_and_outside_of_a_function(network):
    predictor = inference.Predictor(network, window=5, flip=True)
    images = _images(1, 9, 7, 3)
    expected = predictor(images)
    as_float = predictor(images.astype(np.float32))
    in_graph = tf.function(predictor)(images)
    np.testing.assert_allclose(as_float, expected, atol=1e-6)
    np.testing.assert_allclose(in_graph, expected, atol=1e-6)


@pytest.mark.parametrize("window", [0, 6])
def test_one_trace_for_all_sizes(network, window):
    calls = []

    def counted(images, training):
        calls.append(images.shape)
        return network(images, training=training)

    predictor = inference.Predictor(counted, window=window)
    for size in [(1, 8, 8), (2, 8, 8), (1, 5, 13), (3, 17, 4)]:
        prob = predictor(_images(*size, 3))
        assert prob.shape == (*size, 4)
    assert len(calls) == 1


@pytest.mark.parametrize("average", inference.AVERAGES)
def test_scales_and_flip_match_an_oracle(network, average):
    images = _images(1, 8, 12, 3).astype(np.float32)
    predictor = inference.Predictor(
        network, scales=(0.5, 1.0), flip=True, average=average
    )
    scores = []
    for size in [(4, 6), (8, 12)]:
        for mirror in (1, -1):
            scaled = tf.image.resize(images, size)[:, :, ::mirror]
            logits = network(scaled)[:, :, ::mirror]
            logits = tf.image.resize(logits, (8, 12)).numpy()
            scores.append(logits if average == "logits" else _softmax(logits))
    expected = np.mean(scores, 0)
    if average == "logits":
        expected = _softmax(expected)
    np.testing.assert_allclose(predictor(images), expected, atol=1e-5)


def test_flip_makes_the_prediction_follow_a_mirrored_image(network):
    predictor = inference.Predictor(network, flip=True)
    images = _images(1, 8, 12, 3)
    np.testing.assert_allclose(
        predictor(images[:, :, ::-1]),
        predictor(images)[:, :, ::-1],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "window,overlap,stride",
    [((6, 8), 0.5, (3, 4)), ((8, 8), 0.25, (6, 6)), ((5, 5), 0.0, (5, 5))],
)
def test_windows_match_an_oracle(network, window, overlap, stride):
    images = _images(2, 14, 19, 3)
    expected = [_slide(network, image, window, stride) for image in images]
    for batch in (1, 3, 100):
        predictor = inference.Predictor(
            network, window=window, overlap=overlap, batch=batch
        )
        np.testing.assert_allclose(predictor(images), expected, atol=1e-5)


@pytest.mark.parametrize("average", inference.AVERAGES)
@pytest.mark.parametrize("size", [(3, 20), (20, 3), (2, 2), (8, 8), (23, 17)])
def test_windows_change_nothing_for_a_pixelwise_network(
    pixelwise, size, average
):
    images = _images(2, *size, 3)
    whole = _predictor(pixelwise, average=average)
    windows = _predictor(pixelwise, average=average, window=8)
    np.testing.assert_allclose(windows(images), whole(images), atol=1e-6)


def test_small_image_is_filled_with_the_mean_color(network):
    images = _images(1, 3, 4, 3)
    padded = np.empty([1, 6, 6, 3], np.float32)
    padded[:] = inference.FILL_COLOR
    padded[:, :3, :4] = images
    expected = _softmax(network(padded).numpy())[:, :3, :4]
    predictor = inference.Predictor(network, window=6)
    np.testing.assert_allclose(predictor(images), expected, atol=1e-6)


def test_blend_weights_are_a_ramp_that_is_never_zero():
    predictor = inference.Predictor(None, window=(8, 4), overlap=0.25)
    # Rows: 2 pixels shared, so 1/3, 2/3, 1, ... Columns: 1 shared.
    np.testing.assert_allclose(
        predictor._ramp(0), [1 / 3, 2 / 3, 1, 1, 1, 1, 2 / 3, 1 / 3]
    )
    np.testing.assert_allclose(predictor._ramp(1), [0.5, 1, 1, 0.5])
    # Two windows that share 2 pixels add up to 1 where they meet.
    np.testing.assert_allclose(predictor.coverage(14, 0)[2:-2], 1.0)
    assert predictor.starts(15, 0).numpy().tolist() == [0, 6, 7]
    assert predictor.starts(3, 0).numpy().tolist() == [0]


@pytest.mark.parametrize("average", inference.AVERAGES)
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("size", [(40, 11), (5, 20), (8, 9), (17, 3)])
def test_tiles_equal_all_at_once(network, size, overlap, average):
    predictor = _predictor(
        network, window=(8, 6), overlap=overlap, flip=True, average=average
    )
    image = _images(*size, 3)
    prob = np.zeros([*size, 4])
    expected_top = 0
    for top, rows in inference.finished_rows(predictor, image):
        assert top == expected_top
        prob[top : top + len(rows)] = rows
        expected_top += len(rows)
    assert expected_top == size[0]
    at_once = predictor(image[None])[0].numpy()
    np.testing.assert_allclose(prob, at_once, atol=1e-5)
    class_map, confidence = inference.predict_tiled(predictor, image)
    assert class_map.dtype == confidence.dtype == np.uint8
    np.testing.assert_array_equal(class_map, at_once.argmax(-1))
    np.testing.assert_allclose(confidence, at_once.max(-1) * 255, atol=0.51)


def test_memory_of_tiles_does_not_grow_with_the_height(network):
    shapes = []

    class Watched(inference.Predictor):
        def weighted_sums(self, images):
            shapes.append(images.shape)
            return super().weighted_sums(images)

    predictor = Watched(network, window=16)
    image = _images(1600, 128, 3)
    inference.predict_tiled(predictor, image[:64])

    def peak(height):
        # The least of three: another thread may allocate at the same time.
        peaks = []
        for _ in range(3):
            tracemalloc.start()
            inference.predict_tiled(predictor, image[:height])
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return min(peaks)

    half, all_of_it = peak(800), peak(1600)
    assert set(shapes) == {(1, 16, 128, 3)}
    band = 16 * 128 * 4 * 4
    # Class map and confidence are a byte a pixel each; TensorFlow keeps some
    # hundred bytes of each of the 100 further calls.
    assert all_of_it - half < 2 * 800 * 128 + 4 * band
    assert all_of_it < 1600 * 128 * 4 * 4 / 4


def test_half_precision_network_gives_float32():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = keras.layers.Conv2D(4, 3, padding="same")
        network = keras.Sequential([keras.Input((None, None, 3)), layer])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    for window in (0, 4):
        prob = inference.Predictor(network, window=window)(_images(1, 6, 6, 3))
        assert prob.dtype == tf.float32
        np.testing.assert_allclose(prob.numpy().sum(-1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"scales": ()}, "`scales` must be positive"),
        ({"scales": (1.0, 0.0)}, "`scales` must be positive"),
        ({"scales": (1.0, float("nan"))}, "`scales` must be positive and fin"),
        ({"scales": (float("inf"),)}, "`scales` must be positive and finite"),
        ({"average": "mean"}, "must be one of probabilities, logits"),
        ({"window": -1}, "`window` must be 0"),
        ({"window": (4, 0)}, "`window` must be 0"),
        ({"window": (4, 4, 4)}, "`window` must be 0"),
        ({"overlap": 1.0}, r"`overlap` must be in \[0, 1\)"),
        ({"batch": 0}, "`batch` must be at least 1"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        inference.Predictor(None, **options)


def test_bad_calls_are_refused(network):
    predictor = inference.Predictor(network)
    with pytest.raises(ValueError, match=r"must be \[B, H, W, 3\]"):
        predictor(_images(8, 8, 3))
    with pytest.raises(ValueError, match="needs `window`"):
        inference.predict_tiled(predictor, _images(8, 8, 3))
