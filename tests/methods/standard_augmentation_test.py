# SPDX-License-Identifier: Apache-2.0
"""`standard_augmentation` and `pi_model`, which differ in the teacher."""

import numpy as np
import pytest
import tensorflow as tf

from tests.methods import contract_test as contract

BOTH = pytest.mark.parametrize("name", ["standard_augmentation", "pi_model"])


def _softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def _mirrored(x):
    """What the matrix of the contract's batch does: column x is SIZE - x."""
    result = np.zeros_like(x, dtype=float)
    result[:, :, 1:] = x[:, :, :0:-1]
    return result


@BOTH
@pytest.mark.parametrize("loss", ["var", "logits_var"])
def test_step_agrees_with_numpy(name, loss):
    method = contract.make(
        name,
        loss=loss,
        teacher_training=False,
        threshold=0.4,
        confidence="pixel",
    )
    batch = contract.batch_of(method)
    unlabeled = batch["unlabeled"]
    network = getattr(method, "teacher", method.student)
    logits = network(unlabeled["teacher"]).numpy()
    warped = _mirrored(_softmax(logits))
    student = method.student(unlabeled["student"]).numpy()
    if loss == "var":
        distance = ((_softmax(student) - warped) ** 2).sum(-1)
    else:
        distance = ((student - _mirrored(logits)) ** 2).sum(-1) / np.sqrt(3)
    weight = _mirrored(unlabeled["teacher_valid"]) * unlabeled["student_valid"]
    assert not weight[:, :, 0].any()
    expected = np.mean(distance * weight * (warped.max(-1) >= 0.4))
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_unsup"], expected, rtol=1e-4)


@BOTH
def test_equal_views_agree_at_first(name):
    method = contract.make(name, teacher_training=True)
    batch = contract.batch_of(method)
    unlabeled = batch["unlabeled"]
    unlabeled["student"] = unlabeled["teacher"]
    unlabeled["matrix"][:] = np.eye(3)
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_unsup"], 0, atol=1e-12)


def test_target_of_the_pi_model_gets_no_gradient():
    method = contract.make("pi_model", confidence="off")
    batch = tf.nest.map_structure(tf.constant, contract.batch_of(method))
    unlabeled = batch["unlabeled"]
    with tf.GradientTape() as tape:
        own = method.student(unlabeled["teacher"])
        target = method.distribute_strategy.run(
            method.warped_target, [own, unlabeled]
        )
        # Nothing of the student but the target: no way for a gradient.
        loss = method.loss_unsup(tf.zeros_like(own), target)
    assert float(loss) > 0
    gradients = tape.gradient(loss, method.trained)
    assert all(gradient is None for gradient in gradients)
