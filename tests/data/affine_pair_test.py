# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.data import augmentation, geometry
from tfseg.data.views import affine_pair
from tfseg.ops import warp

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
)
FLIPS = dict(flip_rate=0.5, vertical_flip_rate=0.5, transpose_rate=0.5)
FULL = dict(scale=(0.8, 1.25), rotation=45.0, **FLIPS)
MODES = pytest.mark.parametrize("teacher", ["unchanged", "shared", "free"])


def _image(height, width):
    shape = (height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _spec(crop):
    return {
        "teacher": tf.TensorSpec([*crop, 3]),
        "student": tf.TensorSpec([*crop, 3]),
        "teacher_valid": tf.TensorSpec(crop, tf.bool),
        "student_valid": tf.TensorSpec(crop, tf.bool),
        "matrix": tf.TensorSpec([3, 3]),
    }


@functools.lru_cache(None)
def _views(settings):
    """(image, number) -> dict of that many examples, traced once."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.uint8),
            tf.TensorSpec([], tf.int32),
        ],
        autograph=False,
    )
    def views(image, number):
        return tf.map_fn(
            lambda i: affine_pair.view(image, None, tf.stack([i, 7]), settings),
            tf.range(number),
            fn_output_signature=_spec(settings.crop),
        )

    return views


def _examples(image, number, **options):
    """`number` examples of one image in one batch, as a dict of arrays."""
    views = _views(dataclasses.replace(PLAIN, **options))
    return {k: v.numpy() for k, v in views(image, number).items()}


def _aligned(batch):
    """The teacher's crop in the student's frame; where both are whole."""
    warped = warp.warp(batch["teacher"], batch["matrix"]).numpy()
    valid = warp.warp(batch["teacher_valid"], batch["matrix"]).numpy()
    return warped, (valid > 1 - 1e-4) & batch["student_valid"]


def test_keys_shapes_and_types():
    options = {**FULL, "transpose_rate": 0.0}
    settings = dataclasses.replace(PLAIN, crop=(8, 12), **options)
    images = tf.data.Dataset.range(3).map(
        lambda i: affine_pair.view(
            tf.zeros([9 + i, 20, 3], tf.uint8),
            None,
            tf.cast([i, 1], tf.int32),
            settings,
        )
    )
    assert images.element_spec == _spec((8, 12))
    assert len(list(images)) == 3


@MODES
@pytest.mark.parametrize("size", [(40, 56), (20, 30), (10, 11)])
def test_flips_and_whole_pixels_warp_without_error(teacher, size):
    image = _image(*size)
    batch = _examples(image, 60, pair_teacher=teacher, pair_offset=5, **FLIPS)
    warped, both = _aligned(batch)
    assert both.mean() > 0.1
    np.testing.assert_array_equal(warped[both], batch["student"][both])
    outside = ~batch["student_valid"]
    assert (batch["student"][outside] == PAD).all()
    assert outside.any() == (min(size) < 24)
    linear = batch["matrix"][:, :2, :2]
    np.testing.assert_array_equal(np.abs(linear).sum(2), 1)
    assert len(np.unique(linear, axis=0)) == 8


def test_label_maps_warp_as_images():
    """The invariant of aligned predictions, with one-hot labels."""
    label = _image(40, 56)[..., 0].astype(np.int32) % 4
    settings = dataclasses.replace(PLAIN, **FLIPS)
    for seed in range(8):
        windows = affine_pair._windows(
            tf.shape(label), tf.constant([seed, 1]), settings
        )
        teacher, student = (settings.warp_label(label, w) for w in windows)
        matrix = geometry.between(windows[1], windows[0])[None]
        warped = warp.warp(tf.one_hot(teacher, 4)[None], matrix)[0]
        inside = warp.warp(tf.ones([1, 24, 24]), matrix)[0].numpy() == 1
        assert inside.any()
        np.testing.assert_array_equal(
            warped.numpy()[inside], tf.one_hot(student, 4).numpy()[inside]
        )


@MODES
@pytest.mark.parametrize("crop", [(24, 24), (16, 30)])
def test_scale_and_rotation_warp_a_smooth_image(teacher, crop):
    # Linear in x and y, so that bilinear interpolation is exact, but on half
    # a pixel at the border, where the nearest pixel is repeated.
    rows, columns = np.mgrid[:60, :80]
    image = np.stack([3 * columns, 4 * rows, rows + columns], -1)
    options = dict(FULL, transpose_rate=0.5 * (crop[0] == crop[1]))
    batch = _examples(
        image.astype(np.uint8), 24, crop=crop, pair_teacher=teacher, **options
    )
    warped, both = _aligned(batch)
    assert both.mean() > 0.15
    error = np.abs(warped - batch["student"])[both]
    assert error.max() < 2.1 and np.quantile(error, 0.95) < 0.01
    outside = ~batch["student_valid"]
    assert outside.any() and (batch["student"][outside] == PAD).all()


def test_teacher_sees_what_the_mode_says():
    image = _image(60, 80)
    unchanged = _examples(image, 16, pair_teacher="unchanged", **FULL)
    copies = np.lib.stride_tricks.sliding_window_view(image, (24, 24), (0, 1))
    copies = {np.moveaxis(c, 0, 2).tobytes() for r in copies for c in r}
    for crop in unchanged["teacher"]:
        assert crop.astype(np.uint8).tobytes() in copies
    matrices = {
        mode: _examples(image, 40, pair_teacher=mode, **FULL)["matrix"]
        for mode in ("unchanged", "shared", "free")
    }
    linear = {mode: m[:, :2, :2] for mode, m in matrices.items()}
    flips = np.round(linear["shared"])
    np.testing.assert_allclose(linear["shared"], flips, atol=1e-5)
    assert len({x.tobytes() for x in np.abs(flips)}) == 2
    scales = {
        mode: np.sqrt(np.abs(np.linalg.det(x))) for mode, x in linear.items()
    }
    for mode, limit in [("unchanged", 1.25), ("free", 1.25**2)]:
        assert 1 / limit - 1e-5 <= scales[mode].min() < 0.87
        assert 1.15 < scales[mode].max() <= limit + 1e-5
    # Of the student's angle, and of the difference of two.
    cosine = np.abs(linear["unchanged"]) / scales["unchanged"][:, None, None]
    assert (cosine.max((1, 2)) >= np.sqrt(0.5) - 1e-5).all()
    assert cosine.max((1, 2)).min() < 0.8


@pytest.mark.parametrize("offset", [0, 3])
def test_centers_are_apart_by_the_offset(offset):
    batch = _examples(_image(200, 200), 300, pair_offset=offset)
    shift = batch["matrix"][:, :2, 2]
    np.testing.assert_array_equal(shift, np.round(shift))
    values, counts = np.unique(shift, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(-offset, offset + 1))
    if offset:
        # 600 draws; the ends of a rounded uniform have half the weight.
        expected = 600 / 6 * np.array([0.5, 1, 1, 1, 1, 1, 0.5])
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_scaled_windows_share_the_center_and_stay_in_the_image():
    options = dict(pair_offset=0, scale=(0.5, 2.0))
    batch = _examples(_image(200, 200), 20, **options)
    center = np.array([11.5, 11.5, 1])
    moved = batch["matrix"] @ center - center
    # Windows at the border of the image are moved by half their excess.
    assert (np.abs(moved).max(1) < 1e-4).mean() > 0.7
    batch = _examples(_image(70, 60), 60, pair_offset=30, scale=(0.5, 2.0))
    assert batch["teacher_valid"].all() and batch["student_valid"].all()
    batch = _examples(_image(20, 15), 20, pair_offset=30)
    for name in ("teacher", "student"):
        assert (batch[f"{name}_valid"].sum((1, 2)) == 20 * 15).all()


def test_nothing_drawn_gives_the_same_crop_twice():
    for crop in [(24, 24), (8, 12), (64, 64)]:
        batch = _examples(_image(30, 40), 3, crop=crop, pair_offset=0)
        np.testing.assert_array_equal(batch["teacher"], batch["student"])
        np.testing.assert_array_equal(batch["matrix"], [np.eye(3)] * 3)


@MODES
def test_one_pixel_image(teacher):
    image = np.full((1, 1, 3), 9, np.uint8)
    batch = _examples(image, 4, pair_teacher=teacher, **FLIPS)
    warped, both = _aligned(batch)
    assert (batch["teacher"][batch["teacher_valid"]] == 9).all()
    assert (warped[both] == 9).all() and both.sum() == 4


def test_drawn_from_the_seed_alone():
    image, settings = tf.constant(_image(40, 50)), dataclasses.replace(
        PLAIN, **FULL
    )
    view = tf.function(
        lambda seed: affine_pair.view(image, None, seed, settings)
    )
    first = view(tf.constant([1, 2]))
    for again in (
        view(tf.constant([1, 2])),
        affine_pair.view(image, None, tf.constant([1, 2]), settings),
    ):
        for key, value in first.items():
            np.testing.assert_allclose(
                *(tf.cast(x, tf.float32) for x in (value, again[key])),
                atol=2e-3,
            )
    other = view(tf.constant([2, 2]))
    assert (first["matrix"].numpy() != other["matrix"].numpy()).any()


def test_colors_change_the_student_alone_and_no_padding():
    weak = _examples(_image(20, 40), 6, **FULL)
    strong = _examples(_image(20, 40), 6, jitter_rate=1.0, **FULL)
    for key in set(weak) - {"student"}:
        np.testing.assert_array_equal(weak[key], strong[key])
    changed = (weak["student"] != strong["student"]).any(-1)
    assert changed[weak["student_valid"]].mean() > 0.9
    assert not changed[~weak["student_valid"]].any()


def _turn(angle=0.0, flip=False, vertical_flip=False, transpose=False):
    return geometry.Turn(
        tf.constant(angle), flip, vertical_flip, tf.constant(transpose)
    )


def _square(matrices):
    """[..., 2, 3] -> [..., 3, 3] in float64."""
    bottom = np.broadcast_to([0.0, 0, 1], (*matrices.shape[:-2], 1, 3))
    return np.concatenate([matrices.astype(np.float64), bottom], -2)


def _close(ours, official, atol=2e-6):
    np.testing.assert_allclose(ours, official, atol=atol)


def test_parts_agree_with_the_official_matrices():
    gold = golden.load("affine_basic")
    eye = tf.eye(3)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    for i, angle in enumerate(gold["theta"]):
        official = _square(gold["T_R_S"])[i]
        turn = geometry.turn_matrix(_turn(angle), crop=(32, 48)).numpy()
        rotation = official[:2, :2] / gold["scale_xy"][i]
        _close(np.linalg.inv(turn)[:2, :2], rotation)
        official = tf.constant(official, tf.float32)
        _close(geometry.between(eye, official)[:2], gold["inv"][i], 1e-5)
        inverse = geometry.between(eye, official)
        twice = geometry.between(official, inverse)
        _close(twice[:2], gold["cat_self"][i], 2e-5)
    # The second turns about size / 2, ours half a pixel beside it.
    turn = geometry.turn_matrix(_turn(gold["theta"][1]), crop=(32, 48)).numpy()
    _close(
        (half @ np.linalg.inv(turn) @ np.linalg.inv(half))[:2],
        gold["centre_32x48"][1],
        1e-5,
    )
    for flags, official in zip(gold["flip_flags"], gold["flip_32x32"]):
        turn = geometry.turn_matrix(_turn(0.0, *flags), crop=(32, 32))
        _close(geometry.between(eye, turn)[:2], official, 0)


def test_resized_windows_agree_with_the_official_matrices():
    gold = golden.load("affine_pairs")
    names = ("crop_xf0", "crop_xf1", "hung_xf0", "hung_xf1", "hungnu_xf1")
    for official in np.concatenate([gold[name] for name in names]):
        for axis in (0, 1):
            factor, shift = float(official[axis, axis]), float(
                official[axis, 2]
            )
            first = ((factor - 1) / 2 - shift) / factor
            # The official windows begin at whole pixels too.
            assert abs(first - round(first)) < 1e-5
            ours = geometry.window_matrix(
                float(round(first)),
                float(round(first)),
                factor,
                crop=(24, 32),
                flip=False,
            )
            inverse = np.linalg.inv(ours.numpy())
            _close(inverse[axis, [axis, 2]], [factor, shift], 1e-5)


def test_turned_windows_agree_with_the_official_matrices():
    gold = golden.load("affine_pairs")
    turns = [
        _turn(0.0, *(bool(number >> i & 1) for i in range(3)))
        for number in range(8)
    ]
    seen = set()
    for official in np.concatenate(
        [gold["cropflip_xf0"], gold["cropflip_xf1"]]
    ):
        official = np.linalg.inv(_square(official))
        matrices = [geometry.turn_matrix(t, crop=(24, 24)) for t in turns]
        (number,) = [
            i
            for i, matrix in enumerate(matrices)
            if (matrix.numpy()[:2, :2] == official[:2, :2]).all()
        ]
        left, top = official[:2, 2] - matrices[number].numpy()[:2, 2]
        assert 0 <= left <= 56 - 24 and 0 <= top <= 40 - 24
        ours = geometry.turned_window(
            float(top), float(left), 1.0, turns[number], crop=(24, 24)
        )
        _close(ours, official, 0)
        seen.add(number)
    assert len(seen) > 5
    for official in np.concatenate([gold["rot_xf0"], gold["rot_xf1"]]):
        official = np.linalg.inv(_square(official))
        angle = np.arctan2(official[1, 0], official[0, 0]).astype(np.float32)
        factor = np.hypot(official[1, 0], official[0, 0]).astype(np.float32)
        ours = geometry.turned_window(
            0.0, 0.0, float(1 / factor), _turn(angle), crop=(24, 32)
        )
        _close(ours[:2, :2], official[:2, :2])


@pytest.mark.parametrize(
    "name", ["crop", "hung", "hungnu", "rot", "rotfree", "cropflip"]
)
def test_way_between_windows_is_the_official_one(name):
    gold = golden.load("affine_pairs")
    teacher, student = (
        np.linalg.inv(_square(gold[f"{name}_xf{i}"])) for i in range(2)
    )
    official = _square(gold[f"{name}_xf01_cv"])
    for i in range(len(official)):
        windows = [tf.constant(x[i], tf.float32) for x in (teacher, student)]
        # Official: the teacher's pixels to the student's.
        _close(geometry.between(*windows), official[i], 3e-5)
        ours = geometry.between(*windows[::-1])
        _close(ours, np.linalg.inv(official[i]), 3e-5)


def test_way_between_far_windows_is_exact():
    windows = [
        geometry.turned_window(
            7919.0, float(left), 1.0, _turn(0.0, flip), crop=(64, 64)
        )
        for left, flip in [(6000, False), (6005, True)]
    ]
    np.testing.assert_array_equal(
        geometry.between(windows[1], windows[0]),
        [[-1, 0, 63 + 5], [0, 1, 0], [0, 0, 1]],
    )
