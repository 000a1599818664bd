# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.methods import contract_test as contract
from tests.methods import shared


class _Record(keras.callbacks.Callback):
    """Keeps the student's variables after every step."""

    def __init__(self):
        super().__init__()
        self.students = []

    def on_train_batch_end(self, batch, logs=None):
        self.students.append(contract.values(self.model.student))


@functools.lru_cache(maxsize=None)
def _supervised():
    """Values after two steps on labels alone, and after a third one."""
    supervised = contract.make("supervised")
    contract.fit(supervised, 2)
    two = contract.values(supervised.student)
    contract.fit(supervised, 1, first=2)
    return two, contract.values(supervised.student)


@pytest.mark.parametrize(
    "name", ["mean_teacher", "ict", "vat", "standard_augmentation", "pi_model"]
)
def test_without_unsupervised_weight_it_is_supervised_bit_for_bit(name):
    method = contract.make(name, unsup_weight=0.0)
    contract.fit(method, 3)
    _, three = _supervised()
    for a, b in zip(three, contract.values(method.student)):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(name="built", scope="module")
def _built():
    """Begins a method with BatchNorm anew.

    Its callbacks, made for every fit, get their options as attributes, by
    `monkeypatch`: to trace its step takes longer than the tests.
    """
    changes = {"decay": 0.9, "teacher_training": False}
    changes["teacher_statistics"] = "averaged"
    method = contract.make("mean_teacher", norm=True, **changes)
    return shared.Shared("mean_teacher", method)


def test_options_are_the_attributes_that_these_tests_set():
    changes = {
        "decay": 0.7,
        "decay_ramp": True,
        "teacher_statistics": "own",
        "joint_pass": True,
        "padding_weight": 255.0,
    }
    method = contract.make("mean_teacher", **changes)
    assert {name: getattr(method, name) for name in changes} == changes


@pytest.mark.parametrize("statistics", ["averaged", "copied", "own"])
def test_teacher_is_the_closed_form_average(built, statistics, monkeypatch):
    method = built.begin()
    monkeypatch.setattr(method, "teacher_statistics", statistics)
    start = contract.values(method.student)
    for a, b in zip(start, contract.values(method.teacher)):
        np.testing.assert_array_equal(a, b)
    record = _Record()
    contract.fit(method, 3, [record])
    # t3 = 0.9^3 s0 + 0.1 (0.9^2 s1 + 0.9 s2 + s3)
    averaged = [
        0.729 * s0 + 0.1 * (0.81 * s1 + 0.9 * s2 + s3)
        for s0, s1, s2, s3 in zip(start, *record.students)
    ]
    expected = {
        "averaged": averaged,
        "copied": record.students[-1],
        "own": start,
    }[statistics]
    names = [variable.name for variable in method.teacher.variables]
    for i, value in enumerate(contract.values(method.teacher)):
        moving = "moving" in names[i]
        want = expected[i] if moving else averaged[i]
        np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-6)
    assert any("moving" in name for name in names)


def test_teacher_is_neither_trained_nor_in_the_optimizer(built, monkeypatch):
    method = built.begin()
    monkeypatch.setattr(method, "decay", 1.0)
    before = contract.values(method.teacher)
    contract.fit(method, 2)
    for a, b in zip(before, contract.values(method.teacher)):
        np.testing.assert_array_equal(a, b)
    shapes = sum(v.shape.num_elements() for v in method.optimizer.variables)
    weights = sum(v.shape.num_elements() for v in method.trained)
    # One momentum a weight, the step count and the rate: no room for more.
    assert shapes <= weights + 2


def test_padding_changes_nothing():
    built = shared.Shared(
        "mean_teacher", contract.make("mean_teacher", teacher_training=False)
    )
    batch = contract.batch_of(built.begin())
    # A 1x1 network: what stands at a pixel matters at that pixel alone.
    logs = []
    for garbage in (0.0, 200.0):
        method = built.begin()
        for network in method.networks.values():
            kernel = network.variables[0]
            center = np.zeros(kernel.shape, np.float32)
            center[1, 1] = kernel.numpy()[1, 1]
            kernel.assign(center)
        changed = {k: dict(v) for k, v in batch.items()}
        for part, keys in [
            ("labeled", ["image"]),
            ("unlabeled", ["weak", "strong"]),
        ]:
            for key in keys:
                changed[part][key] = np.where(
                    changed[part]["valid"][..., None],
                    changed[part][key],
                    np.float32(garbage),
                )
        method.confidence = "off"
        method.ramp.assign(1.0)
        logs.append(contract.step(method, changed))
    for key in ("loss", "loss_sup", "loss_unsup"):
        assert float(logs[0][key]) > 0
        np.testing.assert_allclose(logs[0][key], logs[1][key], rtol=1e-6)


def test_step_agrees_with_numpy():
    """The whole loss of one step, written again in numpy."""
    method = contract.make(
        "mean_teacher",
        teacher_training=False,
        threshold=0.4,
        unsup_weight=2.0,
    )
    method.ramp.assign(0.25)
    batch = contract.batch_of(method)
    student = lambda x: method.student(x, training=True).numpy()  # noqa: E731
    mask = method.distribute_strategy.run(
        method.box_masks,
        [tf.constant(batch["unlabeled"]["strong"][::2]), method.boxes],
    ).numpy()
    assert set(np.unique(mask)) == {0.0, 1.0}

    def mix(x):
        m = mask if x.ndim == 4 else mask[..., 0]
        return np.where(m > 0.5, x[1::2], x[0::2])

    def softmax(z):
        e = np.exp(z - z.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    unlabeled = batch["unlabeled"]
    target = softmax(mix(method.teacher(unlabeled["weak"]).numpy()))
    prob = softmax(student(mix(unlabeled["strong"])))
    rate = np.mean(target.max(-1) >= 0.4)
    valid = mix(unlabeled["valid"])
    loss_unsup = np.mean(((prob - target) ** 2).sum(-1) * valid * rate)
    label = batch["labeled"]["label"]
    log_prob = np.log(softmax(student(batch["labeled"]["image"])))
    picked = np.take_along_axis(
        log_prob, np.where(label == 255, 0, label)[..., None], -1
    )[..., 0]
    loss_sup = -picked[label != 255].mean()
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_sup"], loss_sup, rtol=1e-5)
    np.testing.assert_allclose(logs["loss_unsup"], loss_unsup, rtol=1e-4)
    np.testing.assert_allclose(logs["confident_rate"], rate, rtol=1e-6)
    np.testing.assert_allclose(
        logs["loss"], loss_sup + 0.25 * 2 * loss_unsup, rtol=1e-5
    )
    share = np.bincount(target.argmax(-1)[valid], minlength=3) / valid.sum()
    np.testing.assert_allclose(logs["pseudo_share"], share, rtol=1e-5)


def _softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def test_cutout_step_agrees_with_numpy():
    method = contract.make(
        "mean_teacher",
        mask="cut",
        teacher_training=False,
        confidence="pixel",
        threshold=0.4,
    )
    batch = contract.batch_of(method)
    unlabeled = batch["unlabeled"]
    mask = method.distribute_strategy.run(
        method.box_masks, [tf.constant(unlabeled["strong"]), method.boxes]
    ).numpy()
    seen = np.where(mask > 0.5, unlabeled["strong"], [124, 116, 104])
    prob = _softmax(method.student(seen.astype(np.float32)).numpy())
    target = _softmax(method.teacher(unlabeled["weak"]).numpy())
    weight = unlabeled["valid"] * mask[..., 0] * (target.max(-1) >= 0.4)
    expected = np.mean(((prob - target) ** 2).sum(-1) * weight)
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_unsup"], expected, rtol=1e-4)
    assert expected > 0


def test_without_a_mask_all_images_are_seen_and_padding_may_weigh():
    losses = []
    built = shared.Shared(
        "mean_teacher",
        contract.make(
            "mean_teacher",
            mask="none",
            teacher_training=False,
            confidence="off",
        ),
    )
    for padding_weight in (0.0, 255.0):
        method = built.begin()
        method.padding_weight = padding_weight
        batch = contract.batch_of(method)
        unlabeled = batch["unlabeled"]
        prob = _softmax(method.student(unlabeled["strong"]).numpy())
        target = _softmax(method.teacher(unlabeled["weak"]).numpy())
        weight = np.where(unlabeled["valid"], 1, padding_weight)
        expected = np.mean(((prob - target) ** 2).sum(-1) * weight)
        logs = contract.step(method, batch)
        np.testing.assert_allclose(logs["loss_unsup"], expected, rtol=1e-4)
        losses.append(expected)
    assert losses[1] > losses[0]


def test_one_joint_pass_is_two_passes_where_images_do_not_meet():
    for norm in (False, True):
        students = []
        built = shared.Shared(
            "mean_teacher", contract.make("mean_teacher", norm=norm)
        )
        for joint in (False, True):
            method = built.begin()
            method.joint_pass = joint
            method.ramp.assign(1.0)
            contract.step(method, contract.batch_of(method))
            students.append(contract.values(method.student))
        gap = max(np.abs(a - b).max() for a, b in zip(*students))
        assert (gap > 1e-4) == norm


def test_ramped_decay_averages_all_students_so_far(built, monkeypatch):
    method = built.begin()
    monkeypatch.setattr(method, "decay", 0.6)
    monkeypatch.setattr(method, "decay_ramp", True)
    record = _Record()
    contract.fit(method, 3, [record])
    # Decays 0, 1/2, then min(2/3, 0.6).
    for teacher, s1, s2, s3 in zip(
        contract.values(method.teacher), *record.students
    ):
        expected = 0.6 * (s1 + s2) / 2 + 0.4 * s3
        np.testing.assert_allclose(teacher, expected, rtol=1e-5, atol=1e-6)


def test_boxes_are_checked():
    boxes = contract.OPTIONS["mean_teacher"]["boxes"].to_dict()
    with pytest.raises(ValueError, match="`config.method.boxes.numboxes`"):
        contract.make("mean_teacher", boxes=boxes | {"numboxes": 3})
    boxes.pop("invert")
    with pytest.raises(ValueError, match="boxes.invert` is missing"):
        contract.make("mean_teacher", boxes=boxes)


def test_nothing_confident_gives_no_unsupervised_gradient():
    method = contract.make("mean_teacher", threshold=1.0)
    contract.fit(method, 2)
    two, _ = _supervised()
    for a, b in zip(two, contract.values(method.student)):
        np.testing.assert_array_equal(a, b)


def test_wrong_rate_is_named():
    with pytest.raises(ValueError, match=r"`config.method.decay` must be in"):
        contract.make("mean_teacher", decay=1.5)
    with pytest.raises(ValueError, match="teacher_statistics` must be one"):
        contract.make("mean_teacher", teacher_statistics="frozen")
