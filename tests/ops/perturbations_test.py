# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.ops import components, draws, perturbations

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
BOXES = np.array([[[0, 0, 21, 31], [5, 10, 30, 11], [0, 0, 0, 0]]], np.int32)


def normal(*shape):
    values = np.random.RandomState(0).normal(size=shape)
    return np.maximum(values, 0).astype(np.float32)


def _uniform(seed, *shape):
    return draws.uniform(shape, seed)


def drawn(features, seed):
    """All random factors of features [2, 8, 8, K]."""
    boxes = np.concatenate([BOXES, BOXES[:, ::-1]])
    return [
        perturbations.spatial_dropout_factor(
            features, _uniform(seed, 2, 1, 1, features.shape[-1])
        ),
        perturbations.random_feature_drop_mask(features, seed),
        perturbations.feature_noise_factor(features, seed),
        perturbations.guided_cutout_mask(
            features, boxes, _uniform(seed, *boxes.shape[:2], 2), size=(32, 40)
        ),
    ]


def test_spatial_dropout_is_as_in_the_official_code():
    data = golden.load("cct_perturbations")
    mask = data["drop_mask"][:, np.newaxis, np.newaxis]
    factor = perturbations.spatial_dropout_factor(
        data["z"], _uniform([1, 2], *mask.shape)
    )
    assert factor.shape == mask.shape
    np.testing.assert_array_equal(np.unique(factor), np.unique(mask))
    np.testing.assert_array_equal(data["z"] * mask, data["drop_out"])


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_spatial_dropout_drops_a_share_and_keeps_the_mean(rate):
    factor = perturbations.spatial_dropout_factor(
        np.zeros([40, 2, 3, 500], np.float32),
        _uniform([3, 4], 40, 1, 1, 500),
        rate=rate,
    ).numpy()
    np.testing.assert_allclose(np.max(factor), 1 / (1 - rate), rtol=1e-6)
    np.testing.assert_allclose(np.mean(factor == 0), rate, atol=0.015)
    np.testing.assert_allclose(np.mean(factor), 1, atol=0.03)
    if rate:
        assert len({image.tobytes() for image in factor}) == 40


@CALLS
@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_feature_drop_agrees_with_official_code(wrap, threshold):
    data = golden.load("cct_perturbations")
    run = wrap(perturbations.feature_drop_mask)
    mask = run(data["z"], tf.constant(threshold))
    np.testing.assert_array_equal(data["z"] * mask, data[f"fdrop_u{threshold}"])


@CALLS
def test_feature_drop_by_hand(wrap):
    # Means over the channels 1, 2, 3, 4; of the second image four times that.
    features = np.array([[[[0, 2], [1, 3]], [[5, 1], [4, 4]]]], np.float32)
    features = np.concatenate([features, 4 * features])
    run = wrap(perturbations.feature_drop_mask)
    # Strictly below half of 4, and of 16.
    mask = run(features, tf.constant(0.5))[..., 0]
    np.testing.assert_array_equal(mask, [[[1, 0], [0, 0]]] * 2)
    mask = run(features, tf.constant([0.6, 0.8]))[..., 0]
    np.testing.assert_array_equal(mask, [[[1, 1], [0, 0]], [[1, 1], [1, 0]]])


def test_feature_drop_takes_the_size_of_signed_features():
    """After a LayerNorm the mean over the channels says nothing."""
    draw = np.random.default_rng(0)
    features = draw.normal(size=[2, 4, 5, 8]).astype(np.float32)
    features -= features.mean(-1, keepdims=True)
    for threshold in (0.6, 0.9):
        found, expected = (
            perturbations.feature_drop_mask(z, threshold)
            for z in (features, np.abs(features))
        )
        np.testing.assert_array_equal(found, expected)
        assert 0 < np.mean(found) < 1


def test_feature_drop_is_computed_in_float32():
    # The sum of 512 channels overflows in float16; bfloat16 has 0.996 for
    # 0.998.
    features = tf.constant([[[[255.0] * 512, [250.0] * 512]]], tf.float16)
    mask = perturbations.feature_drop_mask(features, 1.0)
    np.testing.assert_array_equal(mask[0, 0, :, 0], [0, 1])
    features = tf.constant([[[[64.0], [63.75]]]], tf.bfloat16)
    mask = perturbations.feature_drop_mask(features, 0.998)
    np.testing.assert_array_equal(tf.cast(mask[0, 0, :, 0], "int32"), [0, 1])


def test_one_threshold_for_the_batch_is_uniform_in_its_range():
    # Position i of 1000 is kept as long as i is below the threshold * 999.
    line = np.arange(1000, dtype=np.float32)[:, np.newaxis, np.newaxis]
    features = np.stack([line, 2 * line])
    shares = []
    for i in range(60):
        mask = perturbations.random_feature_drop_mask(features, [i, 1])
        np.testing.assert_array_equal(mask[0], mask[1])
        shares.append(np.mean(mask[0]))
    assert 0.6 <= min(shares) < 0.63 and 0.87 < max(shares) <= 0.9
    np.testing.assert_allclose(np.mean(shares), 0.75, atol=0.03)
    # The range of the official code; and a single value.
    for limits in ((0.7, 0.9), (0.5, 0.5)):
        share = np.mean(
            perturbations.random_feature_drop_mask(
                features, [1, 1], threshold_range=limits
            )
        )
        assert limits[0] <= share <= limits[1]


@CALLS
def test_feature_noise_agrees_with_official_code(wrap, monkeypatch):
    data = golden.load("cct_perturbations")
    noise = data["fnoise_noise"]

    def draw(shape, seed):
        assert tuple(shape) == noise.shape
        return tf.cast(noise / 0.6 + 0.5, tf.float64)

    monkeypatch.setattr(perturbations.draws, "uniform", draw)
    run = wrap(lambda z: z * perturbations.feature_noise_factor(z, [0, 0]))
    np.testing.assert_allclose(run(data["z"]), data["fnoise_out"], rtol=1e-6)


def test_feature_noise_is_uniform():
    factor = perturbations.feature_noise_factor(normal(3, 20, 30, 40), [7, 8])
    assert factor.shape == (20, 30, 40)
    quantiles = np.quantile(factor - 1, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(
        quantiles, [-0.3, -0.15, 0, 0.15, 0.3], atol=0.01
    )
    assert np.max(np.abs(factor - 1)) <= 0.3 + 1e-6
    small = perturbations.feature_noise_factor(
        normal(1, 20, 30, 40), [7, 8], limit=0.03
    )
    np.testing.assert_allclose((factor - 1) / 10, small - 1, atol=1e-6)


@CALLS
def test_masks_agree_with_official_code(wrap):
    data = golden.load("cct_perturbations")
    z, classes = data["z"], data["pred_class"]
    logits = tf.one_hot(classes, 4)
    for prediction in (tf.constant(classes), logits):
        context = wrap(perturbations.context_mask)(z, prediction)
        others = wrap(perturbations.object_mask)(z, prediction)
        np.testing.assert_array_equal(context, data["mask_small"])
        np.testing.assert_array_equal(z * context, data["context_masked"])
        np.testing.assert_array_equal(z * others, data["object_masked"])
        np.testing.assert_array_equal(context + others, 1)


@pytest.mark.parametrize(
    "size,small", [((16, 24), (4, 3)), ((17, 31), (5, 4)), ((3, 5), (7, 11))]
)
def test_any_ratio_of_sizes(size, small):
    random = np.random.default_rng(1)
    classes = random.integers(0, 3, (2, *size)).astype(np.int32)
    rows = [i * size[0] // small[0] for i in range(small[0])]
    columns = [i * size[1] // small[1] for i in range(small[1])]
    expected = classes[:, rows][:, :, columns] > 0
    features = np.zeros([2, *small, 1], np.float32)
    mask = perturbations.context_mask(features, classes)
    np.testing.assert_array_equal(mask[..., 0], expected)
    resized = tf.compat.v1.image.resize_nearest_neighbor(
        (classes > 0)[..., np.newaxis].astype(np.float32), small
    )
    np.testing.assert_array_equal(mask, resized)


def official_windows(data, key):
    """Boxes and positions that lead to the stored offsets: [3, 2, .]."""
    boxes, position = np.zeros([3, 2, 4], int), np.zeros([3, 2, 2])
    offsets = iter(data[f"cutout_draws_{key}"])
    used = [0, 0, 0]
    for image, points, left, right, top, bottom in data["contours"]:
        if points <= 50:
            continue
        place = image, used[image]
        used[image] += 1
        boxes[place] = top, left, bottom + 1, right + 1
        for axis in (1, 0):
            _, high, offset = next(offsets)
            position[place][axis] = (offset + 0.5) / (high + 1)
    assert next(offsets, None) is None
    return boxes, position


@CALLS
@pytest.mark.parametrize("erase", [0.4, 0.25])
def test_cutout_agrees_with_official_code(wrap, erase):
    data = golden.load("cct_perturbations")
    boxes, position = official_windows(data, f"e{erase}")

    @wrap
    def run(features):
        windows = perturbations.cutout_windows(
            boxes, position, erase=erase, by_side=True
        )
        return perturbations.cutout_mask(features, windows, size=(128, 128))

    full = run(tf.zeros([3, 128, 128, 2]))
    np.testing.assert_array_equal(full, data[f"cutout_full_e{erase}"])
    small = run(data["z"])
    np.testing.assert_array_equal(small, data[f"cutout_small_e{erase}"])
    np.testing.assert_array_equal(
        data["z"] * small, data[f"cutout_out_e{erase}"]
    )


@CALLS
def test_cutout_by_hand(wrap):
    # Sides 20 and 30; the second box is one pixel wide, the third is empty.
    run = wrap(perturbations.cutout_windows)
    start, end = np.zeros([1, 3, 2]), np.full([1, 3, 2], 1 - 2.0**-32)
    by_area = run(BOXES, start, erase=0.25)
    by_side = run(BOXES, start, erase=0.5, by_side=True)
    np.testing.assert_array_equal(by_area, by_side)
    expected = [[0, 0, 10, 15], [5, 10, 17, 10], [0, 0, 0, 0]]
    np.testing.assert_array_equal(by_area[0], expected)
    expected = [[10, 15, 20, 30], [17, 10, 29, 10], [0, 0, 0, 0]]
    np.testing.assert_array_equal(run(BOXES, end, erase=0.25)[0], expected)
    # All of it: no other place is left.
    whole = run(BOXES, end, erase=1.0)
    np.testing.assert_array_equal(whole[0, 0], [0, 0, 20, 30])


def test_cutout_windows_overlap():
    windows = np.array([[[0, 0, 4, 4], [2, 2, 6, 6]]])
    mask = perturbations.cutout_mask(
        np.zeros([1, 8, 8, 1], np.float32), windows, size=(8, 8)
    )
    expected = np.ones([8, 8])
    expected[:4, :4] = expected[2:6, 2:6] = 0
    np.testing.assert_array_equal(mask[0, ..., 0], expected)


@pytest.mark.parametrize("size,small", [((17, 31), (5, 4)), ((4, 4), (9, 7))])
def test_cutout_looks_at_the_pixels_of_a_context_mask(size, small):
    windows = np.array([[[1, 2, size[0] - 1, size[1] - 1]]])
    outside = np.ones([1, *size], np.int32)
    outside[0, 1 : size[0] - 1, 2 : size[1] - 1] = 0
    features = np.zeros([1, *small, 3], np.float32)
    np.testing.assert_array_equal(
        perturbations.cutout_mask(features, windows, size=size),
        perturbations.context_mask(features, outside),
    )


@pytest.mark.parametrize("by_side,share", [(False, 0.4), (True, 0.16)])
def test_guided_cutout_erases_its_share_anywhere_in_the_box(by_side, share):
    boxes = np.tile([[[10, 20, 91, 101]]], [300, 1, 1])
    erased = (
        1
        - perturbations.guided_cutout_mask(
            np.zeros([300, 110, 120, 1], np.float32),
            boxes,
            _uniform([1, 2], 300, len(boxes[0]), 2),
            size=(110, 120),
            by_side=by_side,
        ).numpy()
    )
    np.testing.assert_allclose(erased.sum((1, 2, 3)) / 80**2, share, atol=0.01)
    cover = erased.mean(0)[..., 0]
    assert not cover[:10].any() and not cover[90:].any()
    assert not cover[:, :20].any() and not cover[:, 100:].any()
    cover = cover[10:90, 20:100]
    np.testing.assert_allclose(cover, cover[::-1, ::-1], atol=0.12)
    assert cover[0, 0] < 0.05 and cover[40, 40] > 0.3
    assert cover[0].max() > 0 and cover[:, 0].max() > 0


def test_guided_cutout_of_a_prediction():
    classes = np.zeros([2, 32, 48], np.int32)
    classes[0, 3:30, 5:40] = 7
    boxes = components.object_boxes(classes, max_objects=4)
    mask = perturbations.guided_cutout_mask(
        normal(2, 16, 24, 3),
        boxes,
        _uniform([3, 3], *boxes.shape[:2], 2),
        size=classes.shape[1:],
    )
    inside = perturbations.context_mask(normal(2, 16, 24, 3), classes)
    erased = 1 - mask.numpy()
    assert erased[0].any() and not erased[1].any()
    np.testing.assert_array_equal(erased * inside, erased)


def test_same_seed_same_factors():
    features = normal(2, 8, 8, 16)
    first, again = (drawn(features, tf.constant([1, 2])) for _ in range(2))
    other = drawn(features, tf.constant([1, 9]))
    for a, b, c in zip(first, again, other):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != c)


def test_xla_draws_the_same():
    features = normal(2, 8, 8, 16)
    compiled = tf.function(drawn, jit_compile=True)
    for seed in ([1, 2], [3, -4]):
        for a, b in zip(
            compiled(features, tf.constant(seed)), drawn(features, seed)
        ):
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_factors_have_the_dtype_of_the_features(dtype):
    features = tf.cast(normal(2, 8, 8, 16), dtype)
    exact = drawn(tf.cast(features, tf.float32), [1, 2])
    for half, full in zip(drawn(features, [1, 2]), exact):
        assert half.dtype == dtype
        np.testing.assert_allclose(
            tf.cast(half, tf.float32), full, rtol=2.0**-8
        )
    mask = perturbations.object_mask(features, np.ones([2, 16, 16], int))
    assert mask.dtype == dtype


def test_factors_have_no_gradient():
    features = tf.constant(normal(2, 8, 8, 16))
    with tf.GradientTape() as tape:
        tape.watch(features)
        factors = drawn(features, [1, 2])
        total = sum(tf.reduce_sum(factor) for factor in factors)
    assert tape.gradient(total, features) is None


def test_traced_once_for_all_sizes():
    traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 4]),
            tf.TensorSpec([None, None, None], tf.int32),
        ]
    )
    def run(features, classes):
        traces.append(1)
        boxes = components.object_boxes(classes, max_objects=3)
        size = tf.unstack(tf.shape(classes)[1:])
        return [
            perturbations.spatial_dropout_factor(
                features,
                draws.uniform([tf.shape(features)[0], 1, 1, 4], [1, 2]),
            ),
            perturbations.random_feature_drop_mask(features, [1, 2]),
            perturbations.feature_noise_factor(features, [1, 2]),
            perturbations.context_mask(features, classes),
            perturbations.guided_cutout_mask(
                features,
                boxes,
                draws.uniform([tf.shape(boxes)[0], boxes.shape[1], 2], [1, 2]),
                size=size,
            ),
        ]

    for batch, size in ((2, (3, 4)), (1, (5, 2))):
        features = normal(batch, *size, 4)
        classes = np.ones([batch, 8 * size[0], 8 * size[1]], np.int32)
        for factor in run(features, classes):
            assert (features * factor).shape == features.shape
    assert len(traces) == 1


def test_static_shapes():
    @tf.function
    def run(features, classes):
        factors = drawn(features, [1, 2])
        factors.append(perturbations.context_mask(features, classes))
        return factors

    graph = run.get_concrete_function(
        tf.TensorSpec([2, 8, 8, 5]), tf.TensorSpec([2, 64, 64], tf.int32)
    )
    one_channel = tf.TensorShape([2, 8, 8, 1])
    assert graph.output_shapes == [
        tf.TensorShape([2, 1, 1, 5]),
        one_channel,
        tf.TensorShape([8, 8, 5]),
        one_channel,
        one_channel,
    ]


def test_bad_arguments_are_refused():
    features = normal(2, 8, 8, 4)
    with pytest.raises(ValueError, match="rate=1"):
        perturbations.spatial_dropout_factor(
            features, np.zeros([1, 1, 1, 3]), rate=1
        )
    for wrong in ((0.9, 0.6), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match="`threshold_range` must"):
            perturbations.random_feature_drop_mask(
                features, [0, 0], threshold_range=wrong
            )
    for wrong in (0, 1.5):
        with pytest.raises(ValueError, match=f"erase={wrong}"):
            perturbations.cutout_windows(BOXES, BOXES, erase=wrong)
    with pytest.raises(ValueError, match="`threshold`.*rank 2"):
        perturbations.feature_drop_mask(features, [[0.7], [0.7]])
    with pytest.raises(ValueError, match="`features`.*rank 3"):
        perturbations.context_mask(features[0], np.zeros([1, 8, 8], int))
    with pytest.raises(ValueError, match="`windows`.*rank 2"):
        perturbations.cutout_mask(features, BOXES[0], size=(8, 8))
