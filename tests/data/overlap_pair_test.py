# SPDX-License-Identifier: Apache-2.0
import collections
import dataclasses
import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from tests import golden
from tfseg import config as config_lib
from tfseg.data import augmentation, order, pipeline
from tfseg.data.views import overlap_pair
from tfseg.ops import overlap

NAMES = ("first", "second")
PAD = (124, 116, 104)
PLAIN = augmentation.Augmentation(
    crop=(24, 24),
    scale=(1.0, 1.0),
    flip_rate=0.0,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_rate=0.0,
    gray_rate=0.0,
    blur_rate=0.0,
    blur_sigma=(0.1, 2.0),
    pad_color=PAD,
    overlap_stride=4,
)
FLIPS = dict(flip_rate=0.5, vertical_flip_rate=0.5)


def _image(height, width):
    """Red and green are column and row, blue is neither that of padding."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)


def _label(image):
    """int32 [H, W]: the number of a pixel of `_image`."""
    return tf.tensordot(tf.cast(image, tf.int32), [1, 500, 0], 1)


def _spec(crop, batch=(), labels=True):
    spec = {"matrix": tf.TensorSpec([*batch, 3, 3])}
    for name in NAMES:
        spec[name] = tf.TensorSpec([*batch, *crop, 3])
        spec[f"{name}_valid"] = tf.TensorSpec([*batch, *crop], tf.bool)
        if labels:
            spec[f"{name}_label"] = tf.TensorSpec([*batch, *crop], tf.int32)
    return spec


@functools.lru_cache(None)
def _views(settings, labels):
    """(image, number) -> dict of that many examples, traced once."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.uint8),
            tf.TensorSpec([], tf.int32),
        ],
        autograph=False,
    )
    def views(image, number):
        label = _label(image) if labels else None
        return tf.map_fn(
            lambda i: overlap_pair.view(
                image, label, tf.stack([i, 7]), settings
            ),
            tf.range(number),
            fn_output_signature=_spec(settings.crop, labels=labels),
        )

    return views


def _examples(image, number, labels=False, **options):
    """`number` examples of one image in one batch, as a dict of arrays."""
    views = _views(dataclasses.replace(PLAIN, **options), labels)
    return {k: v.numpy() for k, v in views(image, number).items()}


def _offsets(batch):
    """[B, 2], (y, x) from the first crop to the second; without flips."""
    assert (batch["matrix"][:, :2, :2] == np.eye(2)).all()
    return -batch["matrix"][:, 1::-1, 2].astype(int)


def _iou(offset, crop):
    common = np.prod(np.maximum(np.array(crop) - abs(offset), 0), -1)
    return common / (2 * crop[0] * crop[1] - common)


def _overlap(batch, stride=1):
    parts = (batch[k] for k in ("matrix", "first_valid", "second_valid"))
    return overlap.find(*parts, stride=stride)


def test_batches_have_the_declared_parts_and_resume(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(5)]
    for i, path in enumerate(paths):
        Image.fromarray(_image(9 + 8 * i, 40)).save(path)
    settings = dataclasses.replace(
        PLAIN, crop=(8, 12), scale=(0.5, 2.0), jitter_rate=0.8, **FLIPS
    )

    def stream(start):
        return pipeline.stream(
            pipeline.Pool(tuple(paths)),
            view="overlap_pair",
            augmentation=settings,
            batch=3,
            seed=(5, 1),
            start=start,
            stop=4,
            part=order.Slice(),
        )

    batches = stream(0)
    assert batches.element_spec == _spec((8, 12), [3], labels=False)
    whole, resumed = list(batches), list(stream(2))
    assert len(whole) == 4 and len(resumed) == 2
    for one, other in zip(whole[2:], resumed):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    assert (whole[0]["matrix"] != whole[1]["matrix"]).numpy().any()


@pytest.mark.parametrize(
    "size, crop",
    [((60, 80), (24, 24)), ((50, 30), (16, 32)), ((18, 70), (24, 24))],
)
def test_partners_show_the_same_pixel(size, crop):
    """With every flip of both crops, and padding left out."""
    square = crop[0] == crop[1]
    options = dict(crop=crop, transpose_rate=0.5 * square, **FLIPS)
    batch = _examples(_image(*size), 120, **options)
    matrix = batch["matrix"]
    np.testing.assert_array_equal(matrix, np.round(matrix))
    kinds = np.unique(matrix[:, :2, :2], axis=0)
    np.testing.assert_array_equal(abs(kinds).sum(2), 1)
    assert len(kinds) == (8 if square else 4)
    found = _overlap(batch)
    inside = found.inside.numpy()
    aligned = overlap.align(batch["second"], found.index).numpy()
    np.testing.assert_array_equal(aligned[inside], batch["first"][inside])
    assert (batch["first"][~batch["first_valid"]] == PAD).all()
    assert (~batch["first_valid"]).any() == any(np.less(size, crop))
    # All that both crops show is inside, and no padding.
    code = [
        np.where(batch[f"{x}_valid"], batch[x] @ [1, 500, 0], -1 - i)
        for i, x in enumerate(NAMES)
    ]
    shared = [np.isin(*pair) for pair in zip(*code)]
    np.testing.assert_array_equal(inside, shared)
    assert 0.3 < inside.mean() < 0.9


def test_features_of_the_overlap_are_those_of_whole_positions():
    batch = _examples(_image(30, 21), 40, transpose_rate=0.5, **FLIPS)
    found = _overlap(batch, stride=4)
    inside = found.inside.numpy()

    def mean(x):
        return x.reshape(40, 6, 4, 6, 4, 3).mean((2, 4))

    first, second = mean(batch["first"]), mean(batch["second"])
    aligned = overlap.align(second, found.index).numpy()
    np.testing.assert_array_equal(aligned[inside], first[inside])
    # Blue of padding is not 0.
    assert (first[inside][:, 2] == 0).all() and inside.any((1, 2)).all()
    whole = _overlap(batch).inside.numpy().reshape(40, 6, 4, 6, 4)
    np.testing.assert_array_equal(inside, whole.all((2, 4)))


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_crops_are_whole_pixels_of_one_resized_image(scale):
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    sides = [round(side * scale) for side in image.shape[:2]]
    resized = tf.image.resize(image, sides).numpy()
    batch = _examples(image, 12, crop=(24, 16), scale=(scale, scale))
    windows = np.moveaxis(sliding_window_view(resized, (24, 16), (0, 1)), 2, 4)
    for first, second, offset in zip(
        batch["first"], batch["second"], _offsets(batch)
    ):
        error = abs(windows - first).max((2, 3, 4))
        place = np.unravel_index(error.argmin(), error.shape)
        assert error[place] < 0.05
        np.testing.assert_allclose(
            windows[tuple(place + offset)], second, atol=0.05
        )


def test_random_scales_agree_where_bilinear_interpolation_is_exact():
    batch = _examples(_image(150, 150), 60, scale=(0.5, 2.0), **FLIPS)
    found = _overlap(batch)
    aligned = overlap.align(batch["second"], found.index).numpy()
    inside = found.inside.numpy()
    np.testing.assert_allclose(
        aligned[inside], batch["first"][inside], atol=2e-3
    )
    steps = abs(np.diff(batch["first"], axis=2))[:, 4, 4, 0]
    assert steps.min() < 0.6 and steps.max() > 1.7


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0, 2.0, 3.1])
def test_a_label_is_that_of_the_nearest_pixel(scale):
    """Also of crops that are turned, or larger than the image."""
    options = dict(scale=(scale, scale), transpose_rate=0.5, **FLIPS)
    batch = _examples(_image(12, 90), 40, labels=True, **options)
    for name in NAMES:
        valid, label = batch[f"{name}_valid"], batch[f"{name}_label"]
        assert (label[~valid] == 255).all() and valid.all() == (scale >= 2)
        pixel = np.stack([label % 500, label // 500], -1)
        distance = abs(batch[name][..., :2] - pixel)[valid].max()
        assert distance < (1e-6 if scale == 1 else 0.502)


@pytest.mark.parametrize(
    "crop, limits",
    [((24, 24), (0.1, 1.0)), ((16, 32), (0.3, 0.7)), ((24, 24), (0.0, 0.2))],
)
def test_iou_lies_in_the_range(crop, limits):
    batch = _examples(_image(90, 90), 250, crop=crop, overlap_range=limits)
    assert batch["first_valid"].all() and batch["second_valid"].all()
    offset = _offsets(batch)
    assert not (offset % 4).any()
    iou = _iou(offset, crop)
    assert (iou >= max(limits[0], 1e-9)).all() and (iou <= limits[1]).all()
    possible = _iou(overlap_pair.offsets(crop, 4, limits), crop)
    assert len(np.unique(iou)) > 0.7 * len(np.unique(possible))
    np.testing.assert_allclose(
        _overlap(batch).inside.numpy().mean((1, 2)), 2 * iou / (1 + iou)
    )


@pytest.mark.parametrize("size", [(70, 60), (11, 40)])
def test_full_overlap_is_the_same_crop_twice(size):
    batch = _examples(_image(*size), 20, overlap_range=(1, 1))
    np.testing.assert_array_equal(batch["first"], batch["second"])
    np.testing.assert_array_equal(batch["matrix"], [np.eye(3)] * 20)
    batch = _examples(_image(*size), 20, overlap_range=(1, 1), **FLIPS)
    inside = _overlap(batch).inside.numpy()
    np.testing.assert_array_equal(inside, batch["first_valid"])


@pytest.mark.parametrize("size", [(24, 24), (10, 17), (1, 1)])
def test_image_that_fits_into_the_crop_has_no_other(size):
    for limits in ((0.1, 1.0), (0.1, 0.5)):
        batch = _examples(_image(*size), 40, overlap_range=limits)
        np.testing.assert_array_equal(batch["first"], batch["second"])
        assert (batch["first_valid"].sum((1, 2)) == np.prod(size)).all()
        np.testing.assert_array_equal(_offsets(batch), 0)
    corners = batch["first_valid"].reshape(40, -1).argmax(1)
    assert len(set(corners)) > 0.4 * min(np.subtract(25, size).prod(), 40)


def test_both_crops_have_the_padding_of_one_direction_alike():
    batch = _examples(_image(18, 60), 60)
    offset = _offsets(batch)
    assert (offset[:, 0] == 0).all() and len(np.unique(offset[:, 1])) > 7
    np.testing.assert_array_equal(batch["first_valid"], batch["second_valid"])
    assert (batch["first_valid"].sum((1, 2)) == 18 * 24).all()


def _law(size, crop, stride, limits):
    """{(first, second): probability}, by looking at all pairs of corners."""
    corners = (range(a - b + 1) for a, b in zip(size, crop))
    places = list(itertools.product(*corners))
    law = {}
    for first in places:
        seconds = []
        for second in places:
            offset = np.subtract(second, first)
            iou = _iou(offset, crop)
            if not (offset % stride).any() and limits[0] <= iou <= limits[1]:
                seconds.append(second)
        for second in seconds:
            law[first, second] = 1 / len(places) / len(seconds)
    return law


def test_pairs_have_the_declared_law():
    law = _law((20, 30), (16, 24), 4, (0.3, 1.0))
    assert abs(sum(law.values()) - 1) < 1e-9
    number = 2000
    options = dict(crop=(16, 24), overlap_range=(0.3, 1.0))
    batch = _examples(_image(20, 30), number, **options)
    corners = np.stack([batch[x][:, 0, 0, 1::-1] for x in NAMES])
    counts = collections.Counter(
        tuple(map(tuple, pair)) for pair in corners.astype(int).swapaxes(0, 1)
    )
    assert set(counts) == set(law)
    expected = number * np.array(list(law.values()))
    counts = np.array([counts[pair] for pair in law])
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()
    squares = ((counts - expected) ** 2 / expected).sum()
    assert squares < len(law) + 4 * np.sqrt(2 * len(law))


def test_admits_what_the_official_rejection_admits():
    gold = golden.load("cac_pairs")
    refused = 0
    for row, tries in zip(gold["rows"], gold["tries"]):
        room, first = row[4:6] - 320, row[11:9:-1]
        choices = overlap_pair.offsets((320, 320), 8, row[7:9] / 10)
        fits = overlap_pair._fits(first, room, choices).numpy()
        fitting = set(map(tuple, choices[fits]))
        drawn = tries[: row[12], ::-1].astype(int)
        snapped = first + (drawn - first) // 8 * 8
        snapped = np.where(snapped < 0, snapped + 8, snapped)
        admitted = [tuple(offset) in fitting for offset in snapped - first]
        accepted = row[12] < 50
        assert admitted == [False] * (row[12] - 1) + [accepted]
        refused += len(admitted) - 1
        offset = row[15:17] - row[19:21]
        assert (offset == ((snapped[-1] - first) * accepted)).all()
    assert refused > 50


def test_known_offsets():
    assert np.isclose(_iou(np.array([-40, 80]), (320, 320)), 0.48837209)
    near = {tuple(x) for x in overlap_pair.offsets((320, 320), 8, (0.48, 0.49))}
    assert (-40, 80) in near and (0, 0) not in near
    # Halves and a third: the bounds belong to the range.
    third = overlap_pair.offsets((8, 16), 4, (1 / 3, 1 / 3))
    assert sorted(map(tuple, third)) == [(-4, 0), (0, -8), (0, 8), (4, 0)]
    same = overlap_pair.offsets((8, 16), 8, (1, 1))
    assert same.tolist() == [[0, 0]] and same.dtype == np.int32
    assert len(overlap_pair.offsets((8, 16), 8, (0, 1))) == 3


def test_flips_of_the_crops_are_independent():
    batch = _examples(_image(30, 30), 400, crop=(8, 8), flip_rate=0.5)
    first, second = (batch[x][:, 0, 0, 0] > batch[x][:, 0, 1, 0] for x in NAMES)
    counts = np.bincount(first * 2 + second, minlength=4)
    assert (abs(counts - 100) < 5 * np.sqrt(75)).all()
    np.testing.assert_array_equal(
        batch["matrix"][:, 0, 0], np.where(first == second, 1, -1)
    )


def test_colors_are_independent_and_change_no_padding():
    plain, strong = (
        _examples(_image(20, 40), 8, overlap_range=(1, 1), jitter_rate=rate)
        for rate in (0.0, 1.0)
    )
    valid = strong["first_valid"]
    np.testing.assert_array_equal(valid, plain["first_valid"])
    np.testing.assert_array_equal(strong["matrix"], plain["matrix"])
    for name, other in itertools.product(NAMES, repeat=2):
        reference = (plain if name == other else strong)[other]
        changed = (strong[name] != reference).any(-1)
        assert changed[valid].mean() > 0.9 and not changed[~valid].any()


def test_drawn_from_the_seed_alone():
    image = tf.constant(_image(40, 50))
    settings = dataclasses.replace(PLAIN, jitter_rate=0.8, **FLIPS)
    view = tf.function(
        lambda seed: overlap_pair.view(image, None, seed, settings)
    )
    one = tf.constant([1, 2])
    first, again = view(one), view(one)
    tf.nest.map_structure(np.testing.assert_array_equal, first, again)
    eager = overlap_pair.view(image, None, one, settings)
    labeled = overlap_pair.view(image, _label(image), one, settings)
    assert set(labeled) - set(first) == {"first_label", "second_label"}
    for key in first:
        np.testing.assert_array_equal(labeled[key], eager[key])
        np.testing.assert_allclose(
            *(tf.cast(x[key], tf.float32) for x in (first, eager)), atol=2e-3
        )
    assert (first["matrix"] != view(one + 1)["matrix"]).numpy().any()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(crop=(24, 30)), "`config.data.overlap_stride`.*24 x 30 and 4"),
        (dict(rotation=5.0), "`config.data.rotation` to be 0.*5.0"),
        (dict(overlap_range=(0.9, 0.95)), r"overlap_range`=\(0.9, 0.95\)"),
    ],
)
def test_impossible_settings_are_named(options, message):
    settings = dataclasses.replace(PLAIN, **options)
    with pytest.raises(ValueError, match=message):
        overlap_pair.view(_image(30, 30), None, tf.constant([1, 2]), settings)


@pytest.mark.parametrize("value", [(0.5, 0.1), (0.1, 1.1), 0, 2.5])
def test_wrong_option_is_named(value):
    field = "overlap_range" if isinstance(value, tuple) else "overlap_stride"
    config = config_lib.base_config()
    config.data = config.data.to_dict() | {field: value}
    with pytest.raises(ValueError, match=f"`config.data.{field}` must be"):
        config_lib.validate(config)
