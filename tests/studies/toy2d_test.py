# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from tfseg import lookup
from tfseg.studies import toy2d
from tfseg.studies.toy import plane, training

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
BAND = {"gap": 0.15, "band": 0.1}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(toy2d, "_SIZE", 64)
    monkeypatch.setattr(training, "_WIDTH", 16)


@pytest.fixture
def data():
    distance = plane.signed_distance(plane.ground_truth(64))
    labeled = plane.labeled(distance, count=10, seed=0, **BAND)
    return training.Data(distance, labeled, plane.away(distance, 0))


def test_distance_is_that_of_brute_force():
    truth = np.random.default_rng(0).random([9, 9]) > 0.6
    pixels = np.argwhere(np.ones([9, 9]))
    between = np.linalg.norm(pixels[:, None] - pixels, axis=-1)
    same = truth.ravel()[:, None] == truth.ravel()
    nearest = np.where(same, np.inf, between).min(1).reshape(9, 9)
    np.testing.assert_allclose(
        plane.signed_distance(truth),
        np.where(truth, nearest, -nearest) * 2 / 9,
        rtol=1e-6,
    )


def test_drawn_boundary_reaches_from_side_to_side():
    truth = plane.ground_truth(128)
    assert ndimage.label(truth)[1] == ndimage.label(~truth)[1] == 1
    assert not truth[0].any() and truth[-1].all()
    assert 0.4 < truth.mean() < 0.6


def test_gap_is_around_the_boundary():
    distance = np.array([[-0.3, -0.1], [0.1, 0.2]], np.float32)
    assert plane.away(distance, 0).tolist() == [0, 1, 2, 3]
    assert plane.away(distance, 0.15).tolist() == [0, 3]


@pytest.mark.parametrize("seed", range(3))
def test_labeled_pixels_are_on_both_sides_all_along(seed):
    distance = plane.signed_distance(plane.ground_truth(128))
    pixels = plane.labeled(distance, count=10, seed=seed, **BAND)
    there = distance.ravel()[pixels]
    assert (np.sign(there) == np.repeat([-1, 1], 5)).all()
    assert ((np.abs(there) > 0.15) & (np.abs(there) < 0.25)).all()
    assert (pixels % 128 * 5 // 128).tolist() == [0, 1, 2, 3, 4] * 2
    again = plane.labeled(distance, count=10, seed=seed, **BAND)
    other = plane.labeled(distance, count=10, seed=seed + 1, **BAND)
    assert (pixels == again).all() and (pixels != other).any()


def test_points_are_the_centers_of_pixels():
    np.testing.assert_allclose(
        plane.points(np.array([0, 3, 4, 15]), 4),
        [[-0.75, -0.75], [-0.75, 0.75], [-0.25, -0.75], [0.75, 0.75]],
    )


@CALLS
def test_sample_is_bilinear(wrap):
    generator = np.random.default_rng(0)
    image = generator.random([7, 7]).astype(np.float32)
    points = generator.uniform(-1.5, 1.5, [200, 2]).astype(np.float32)
    np.testing.assert_allclose(
        wrap(plane.sample)(image, points),
        ndimage.map_coordinates(
            image, ((points + 1) * 3.5 - 0.5).T, order=1, mode="nearest"
        ),
        atol=1e-5,
    )
    centers = plane.points(np.arange(49), 7)
    np.testing.assert_allclose(
        plane.sample(image, centers), image.ravel(), atol=1e-5
    )


@CALLS
def test_constraint_keeps_the_distance_alone(wrap):
    # A straight boundary x = 0: the distance is x.
    axis = (np.arange(16, dtype=np.float32) + 0.5) / 8 - 1
    distance = np.tile(axis, [16, 1])
    points = np.array([[0, 0.5], [0, 0.5], [0, 0.5], [0, 0.5], [0.2, -0.1]])
    moves = np.array([[0.4, 0], [0, 0.015], [0, 0.017], [0.4, -0.1], [0, 0.2]])
    kept = wrap(plane.along_contour)(
        distance,
        points.astype(np.float32),
        (points + moves).astype(np.float32),
        0.016,
    )
    # The last one comes to the same distance, in the other class.
    assert kept.numpy().tolist() == [1, 1, 0, 0, 0]


@CALLS
def test_loss_by_hand(wrap):
    def logits(*probs):
        return np.log([[p, 1 - p] for p in probs]).astype(np.float32)

    teacher = logits(0.99, 0.02, 0.98, 0.9)
    student = logits(0.5, 0.25, 0.3, 0.1)
    kept = np.array([1, 1, 0, 1], np.float32)
    loss, metrics = wrap(training.loss_consistency)(student, teacher, kept)
    # The third is not kept, the fourth not confident, which still counts.
    first = -2 * np.log(0.5)
    second = -2 * (0.02 * np.log(0.25) + 0.98 * np.log(0.75))
    np.testing.assert_allclose(loss, (first + second) / 3, rtol=1e-5)
    assert metrics["loss_consistency"] == loss
    np.testing.assert_allclose(metrics["confident_rate"], 0.75)
    np.testing.assert_allclose(metrics["kept_rate"], 0.75)


@CALLS
def test_loss_of_nothing_is_zero(wrap):
    logits = tf.constant([[5.0, 0.0]])
    loss, _ = wrap(training.loss_consistency)(logits, logits, tf.zeros([1]))
    assert loss == 0
    loss, _ = training.loss_consistency(logits, logits * 0, tf.ones([1]))
    assert loss == 0


def test_points_and_perturbations_are_spread_as_said(data, monkeypatch):
    monkeypatch.setattr(training, "_BATCH", 20000)
    seeds = tf.random.experimental.stateless_split([0, 1], 3)
    points, perturbed = training.draw(data, seeds)
    change = (perturbed - points).numpy()
    np.testing.assert_allclose(change.std(0), 0.117, rtol=0.03)
    np.testing.assert_allclose(change.mean(0), 0, atol=0.005)
    # Uniform in the plane, also with noise: standard deviation 2 / sqrt(12).
    np.testing.assert_allclose(points.numpy().std(0), 0.577, rtol=0.03)
    alone = data._replace(pixels=data.pixels[:1])
    points, perturbed = (x.numpy() for x in training.draw(alone, seeds))
    both = np.stack([points[:, 0], (perturbed - points)[:, 0]])
    assert abs(np.corrcoef(both)[0, 1]) < 0.03
    np.testing.assert_allclose(points.mean(0), -1 + 1 / 64, atol=1e-3)
    np.testing.assert_allclose(points.std(0), 2 / 256, rtol=0.03)


def test_average_moves_the_teacher_one_hundredth(small):
    teacher, student = training.build_network(0), training.build_network(1)
    before = [v.numpy() for v in teacher.variables]
    training.average(teacher, student)
    for old, now, new in zip(before, teacher.variables, student.variables):
        expected = 0.99 * old + 0.01 * new.numpy()
        np.testing.assert_allclose(now, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("perturbation", training.PERTURBATIONS)
def test_first_step_moves_the_teacher_as_adam_does(small, data, perturbation):
    start = training.build_network(3)
    teacher, means = training.train(data, perturbation, steps=1, seed=3)
    # Adam's first step is the learning rate, whatever the gradient is.
    change = teacher.variables[-1] - start.variables[-1]
    np.testing.assert_allclose(np.abs(change), 0.01 * 2e-4, rtol=0.05)
    assert means["loss_sup"] > 0
    assert ("kept_rate" in means) == (perturbation != "none")
    if perturbation == "constrained":
        assert 0.05 < means["kept_rate"] < 0.3


def test_unknown_perturbation_is_refused(data):
    with pytest.raises(ValueError, match="none, isotropic, constrained"):
        training.train(data, "sideways", steps=1, seed=0)


def test_prediction_is_in_the_order_of_pixels(monkeypatch):
    monkeypatch.setattr(training, "_PASS", 10)
    # Class 1 where y > x / 2.
    predicted = training.predict(
        lambda points: tf.stack([points[:, 1] / 2, points[:, 0]], 1), 8
    )
    y, x = np.meshgrid(*[np.arange(8) - 3.5] * 2, indexing="ij")
    assert (predicted == (y > x / 2)).all()


def test_run_writes_numbers_and_picture(small, tmp_path):
    result = toy2d.run(workdir=tmp_path / "new", steps=2)
    saved = (tmp_path / "new" / "toy2d.json").read_text()
    assert result == json.loads(saved)
    assert Image.open(tmp_path / "new" / "toy2d.png").width > 1000
    assert [case["case"] for case in result["cases"]] == [
        "supervised alone, gap",
        "supervised alone, no gap",
        "isotropic, gap",
        "isotropic, no gap",
        "constrained, no gap",
    ]
    assert result["cases"][1]["num_points"] == 64 * 64
    assert result["cases"][0]["num_points"] < 64 * 64
    assert all(0 <= case["error_rate"] < 1 for case in result["cases"])


def test_same_seed_same_numbers(small, tmp_path, monkeypatch):
    monkeypatch.setattr(toy2d, "_TRAININGS", (("constrained", (False,)),))
    first, again, other = (
        toy2d.run(workdir=tmp_path, steps=4, seed=seed)["cases"]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_text_is_a_line_per_case():
    cases = [{"case": "isotropic, gap", "error_rate": 0.0123}]
    lines = toy2d.text({"cases": cases}).splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["isotropic,", "gap", "1.23%"]


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"steps": 0}])
def test_wrong_numbers_are_refused(tmp_path, wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"`{name}` must be.*{name}="):
        toy2d.run(workdir=tmp_path, **wrong)


def test_study_is_found_by_its_name():
    assert lookup.module("studies", "toy2d") is toy2d
    assert "toy" not in lookup.names("studies")
