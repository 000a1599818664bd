# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests.methods import contract_test as contract


def _softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def _blend(share, x):
    share = share.reshape([-1] + [1] * (x.ndim - 1))
    return (1 - share) * x[0::2] + share * x[1::2]


def _parts(method, batch):
    """Distance [B, H, W], blended certainty and blended validity in numpy."""
    unlabeled = batch["unlabeled"]
    share = method.distribute_strategy.run(
        method.blend_shares, [tf.constant(unlabeled["weak"])]
    ).numpy()
    prob = _softmax(method.teacher(unlabeled["weak"]).numpy())
    target = _blend(share, prob)
    blended = _blend(share, unlabeled["strong"]).astype(np.float32)
    student = _softmax(method.student(blended).numpy())
    return (
        ((student - target) ** 2).sum(-1),
        _blend(share, prob.max(-1)),
        _blend(share, unlabeled["valid"].astype(float)),
    )


@pytest.mark.parametrize("confidence", ["batch", "pixel", "off"])
def test_step_agrees_with_numpy(confidence):
    method = contract.make(
        "ict",
        teacher_training=False,
        confidence=confidence,
        threshold=0.45,
        alpha=1.0,
    )
    batch = contract.batch_of(method)
    distance, certainty, valid = _parts(method, batch)
    confident = certainty >= 0.45
    factor = {"batch": confident.mean(), "pixel": confident, "off": 1}
    expected = np.mean(distance * valid * factor[confidence])
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_unsup"], expected, rtol=1e-4)
    np.testing.assert_allclose(logs["confident_rate"], confident.mean())
    assert 0 < confident.mean() < 1


def test_official_confidence_counts_for_all_images():
    method = contract.make(
        "ict",
        teacher_training=False,
        confidence="pixel",
        confidence_across_images=True,
        threshold=0.45,
        alpha=1.0,
    )
    batch = contract.batch_of(method)
    distance, certainty, valid = _parts(method, batch)
    confident = (certainty >= 0.45).astype(float)
    # The broadcast of the official code: [N, 1, H, W] and [N, H, W].
    expected = np.mean(confident[:, None] * (distance * valid)[None])
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_unsup"], expected, rtol=1e-4)


def test_share_of_nothing_is_a_mean_teacher_of_the_first_images():
    ict = contract.make("ict", loss="kld")
    ict.blend_shares = lambda image: tf.zeros([contract.BATCH // 2])
    batch = contract.batch_of(ict)
    plain = contract.make("mean_teacher", mask="none", loss="kld")
    first = dict(batch)
    first["unlabeled"] = {k: v[0::2] for k, v in batch["unlabeled"].items()}
    for key in ("loss", "loss_unsup", "confident_rate"):
        np.testing.assert_allclose(
            contract.step(ict, batch)[key],
            contract.step(plain, first)[key],
            rtol=1e-5,
        )


def test_images_have_shares_of_their_own_and_steps_too():
    method = contract.make("ict", alpha=1.0)
    image = tf.zeros([8, 4, 4, 3])
    run = method.distribute_strategy.run
    first = run(method.blend_shares, [image]).numpy()
    assert len(set(first.tolist())) == 4
    method.step.assign_add(1)
    assert np.all(first != run(method.blend_shares, [image]).numpy())


def test_wrong_alpha_is_named():
    with pytest.raises(ValueError, match="`config.method.alpha` must be pos"):
        contract.make("ict", alpha=0.0)
