# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfseg.ops import class_activation

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
OFFICIAL = {"foreground": 0.3, "background": 0.05}
WEIGHTS = np.random.RandomState(0).randn(3, 4).astype(np.float32)


def image(height, width):
    shape = (height, width, 3)
    return np.random.RandomState(1).uniform(0, 255, shape).astype(np.float32)


def look(images):
    """Every other pixel, so that the mirror image is seen another way."""
    return images[:, ::2, ::2] @ WEIGHTS - 20.0


def bicubic(x, height, width):
    """As PIL, of each channel, without rounding."""
    channels = [
        Image.fromarray(x[..., i]).resize((width, height), Image.BICUBIC)
        for i in range(3)
    ]
    return np.clip(np.stack([np.asarray(c) for c in channels], -1), 0, 255)


def bilinear(x, height, width):
    """Half-pixel centers, one axis after the other."""
    for axis, size in enumerate((height, width)):
        before = x.shape[axis]
        places = (np.arange(size) + 0.5) * before / size - 0.5
        x = np.apply_along_axis(
            lambda line: np.interp(places, np.arange(len(line)), line), axis, x
        )
    return x


def oracle_maps(x, scales):
    height, width = x.shape[:2]
    total = np.zeros([height, width, 4])
    for scale in scales:
        size = [max(1, round(scale * side)) for side in (height, width)]
        scaled = x if scale == 1 else bicubic(x, *size)
        there = np.maximum(look(scaled[None])[0], 0)
        mirrored = np.maximum(look(scaled[None, :, ::-1])[0], 0)
        total += bilinear(there + mirrored[:, ::-1], height, width)
    return total


def oracle_normalized(maps, classes):
    result = np.zeros_like(maps)
    for k in np.flatnonzero(classes):
        result[..., k] = maps[..., k] / (maps[..., k].max() + 1e-5)
    return result


def oracle_label(maps, classes, foreground, background):
    """As published: each threshold is one more map, before the others."""
    keys = np.concatenate([[0], 1 + np.flatnonzero(classes)])

    def winner(threshold):
        first = np.full([*maps.shape[:2], 1], threshold, np.float32)
        stacked = np.concatenate([first, maps[..., keys[1:] - 1]], -1)
        return keys[stacked.argmax(-1)]

    label, floor = winner(foreground), winner(background)
    label[(label == 0) & (floor != 0)] = 255
    return label


def random_maps(seed=0, shape=(6, 7, 4)):
    random = np.random.RandomState(seed)
    maps = np.maximum(random.randn(*shape), 0) * random.uniform(0, 9, shape[2])
    classes = np.array([1, 0, 1, 1], np.float32)
    return maps.astype(np.float32), classes


@CALLS
@pytest.mark.parametrize("size", [(9, 14), (16, 5), (1, 1)])
@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.5, 1.5, 2.0)])
def test_maps_agree_with_oracle(wrap, size, scales):
    x = image(*size)
    run = wrap(lambda x: class_activation.multi_scale_maps(look, x, scales))
    found = run(tf.constant(x))
    assert found.dtype == tf.float32
    expected = oracle_maps(x, scales)
    assert found.shape == expected.shape == (*size, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=5e-3)


def test_images_of_all_sizes_in_one_trace():
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.float32)])
    def run(x):
        traces.append(1)
        maps = class_activation.multi_scale_maps(look, x, (1.0, 0.5))
        assert maps.shape.as_list() == [None, None, 4]
        return maps

    for size in ((9, 14), (16, 5), (1, 1)):
        expected = oracle_maps(image(*size), (1.0, 0.5))
        np.testing.assert_allclose(run(image(*size)), expected, atol=5e-3)
    assert len(traces) == 1


def test_a_mirror_image_has_mirrored_maps():
    x, scales = image(8, 6), (1.0, 1.5)
    maps = class_activation.multi_scale_maps(look, x, scales)
    other = class_activation.multi_scale_maps(look, x[:, ::-1], scales)
    np.testing.assert_allclose(other, maps[:, ::-1], atol=1e-2)


def test_an_image_and_its_mirror_image_are_looked_at_together():
    seen = []

    def noted(images):
        seen.append(images.numpy())
        return tf.cast(look(images), tf.float16)

    x = image(8, 6)
    # A contrast of which bicubic interpolation makes more than there is.
    x[:, 3:] = 255.0
    maps = class_activation.multi_scale_maps(noted, x, (0.5, 1, 2))
    assert maps.dtype == tf.float32
    sizes = [(2, 4, 3, 3), (2, 8, 6, 3), (2, 16, 12, 3)]
    assert [batch.shape for batch in seen] == sizes
    for batch in seen:
        np.testing.assert_array_equal(batch[1], batch[0, :, ::-1])
        assert batch.min() >= 0 and batch.max() <= 255
    np.testing.assert_array_equal(seen[1][0], x)


@CALLS
def test_normalized_agrees_with_oracle(wrap):
    maps, classes = random_maps()
    found = wrap(class_activation.normalized)(maps, classes)
    assert found.dtype == tf.float32
    expected = oracle_normalized(maps, classes)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    highest = np.max(found, (0, 1))
    np.testing.assert_allclose(highest, classes, atol=1e-4)


@CALLS
@pytest.mark.parametrize("value", [0.0, 1e-5, 3.0])
def test_normalized_constant_maps(wrap, value):
    maps = np.full([3, 2, 4], value, np.float32)
    classes = np.array([0, 1, 0, 0])
    found = wrap(class_activation.normalized)(maps, classes).numpy()
    np.testing.assert_array_equal(found[..., [0, 2, 3]], 0)
    expected = value / (value + 1e-5)
    np.testing.assert_allclose(found[..., 1], expected, rtol=1e-5)
    none = class_activation.normalized(maps, np.zeros([4], np.float32))
    np.testing.assert_array_equal(none, 0)


@CALLS
@pytest.mark.parametrize("foreground", [0.0, 0.3, 0.6, 1.0])
def test_label_agrees_with_oracle(wrap, foreground):
    thresholds = {"foreground": foreground, "background": foreground / 3}
    run = wrap(lambda x, y: class_activation.pseudo_label(x, y, **thresholds))
    for seed in range(4):
        maps, classes = (tf.constant(x) for x in random_maps(seed))
        # What the image does not show is to be ignored by the labels too.
        maps /= tf.reduce_max(maps, (0, 1))
        found = run(maps, classes)
        assert found.dtype == tf.int32
        expected = oracle_label(maps.numpy(), classes.numpy(), **thresholds)
        np.testing.assert_array_equal(found, expected)
    kinds = {0.0: {0, 1, 3, 4}, 1.0: {0, 255}}.get(foreground)
    assert set(expected.ravel()) == (kinds or {0, 1, 3, 4, 255})


def test_label_by_hand():
    # Below both, between, above; of two the higher one, of equal ones the
    # first; a threshold itself is not above it.
    maps = np.float32(
        [[[0.04, 0.01], [0.2, 0.1], [0.4, 0.1], [0.4, 0.9], [0.7, 0.7]]]
    )
    label = class_activation.pseudo_label(maps, np.ones([2]), **OFFICIAL)
    np.testing.assert_array_equal(label, [[0, 255, 1, 2, 1]])
    second = class_activation.pseudo_label(
        maps, np.float32([0, 1]), foreground=0.9, background=0.1
    )
    np.testing.assert_array_equal(second, [[0, 0, 0, 255, 255]])
    halves = np.float32([[[0.25, 0.5], [0.5, 0.25]]])
    on = class_activation.pseudo_label(
        halves, np.ones([2]), foreground=0.5, background=0.5
    )
    np.testing.assert_array_equal(on, [[0, 0]])


@CALLS
def test_an_image_without_any_class_is_background(wrap):
    maps, _ = random_maps()
    for thresholds in (OFFICIAL, {"foreground": 0.0, "background": 0.0}):
        run = wrap(
            lambda x, y: class_activation.pseudo_label(x, y, **thresholds)
        )
        label = run(maps, np.zeros([4], np.float32))
        np.testing.assert_array_equal(label, np.zeros([6, 7]))


@pytest.mark.parametrize(
    "foreground, background",
    [(0.3, 0.4), (1.1, 0.1), (0.3, -0.1), (float("nan"), 0.1)],
)
def test_bad_thresholds_are_named(foreground, background):
    maps, classes = random_maps()
    with pytest.raises(ValueError, match=f"foreground={foreground}, backgr"):
        class_activation.pseudo_label(
            maps, classes, foreground=foreground, background=background
        )


def test_bad_arguments_are_named():
    maps, classes = random_maps()
    for scales in ((), (1.0, 0.0), (-1,)):
        with pytest.raises(ValueError, match="`scales` must be positive"):
            class_activation.multi_scale_maps(look, image(2, 2), scales)
    with pytest.raises(ValueError, match="`image` must have rank 3"):
        class_activation.multi_scale_maps(look, image(2, 2)[None], (1,))
    with pytest.raises(ValueError, match="`maps` must have rank 3"):
        class_activation.normalized(maps[None], classes)
    with pytest.raises(ValueError, match="`classes` must have rank 1"):
        class_activation.pseudo_label(maps, classes[None], **OFFICIAL)
    # Of two classes, one map would be broadcast to both.
    with pytest.raises(ValueError, match="without the b.*2 classes, 1 maps"):
        class_activation.normalized(maps[..., :1], np.ones([2]))
