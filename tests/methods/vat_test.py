# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests.methods import contract_test as contract


def _perturbation(method, batch):
    unlabeled = tf.nest.map_structure(tf.constant, batch["unlabeled"])
    logits = method.teacher(unlabeled["weak"], training=method.teacher_training)
    return method.distribute_strategy.run(
        method.perturbation, [unlabeled, logits]
    ).numpy()


def _norms(x):
    return np.sqrt((x.astype(float) ** 2).sum((1, 2, 3)))


@pytest.mark.parametrize("network", ["teacher", "student"])
@pytest.mark.parametrize("training", [False, True])
def test_perturbation_has_the_radius_of_its_image(network, training):
    method = contract.make(
        "vat",
        norm=True,
        radius=0.5,
        direction_network=network,
        teacher_training=training,
    )
    batch = contract.batch_of(method)
    batch["unlabeled"]["valid"][:] = True
    # Nothing changes in one image: its gradient is 0, and so is the radius.
    batch["unlabeled"]["strong"][0] = 7.0
    x = batch["unlabeled"]["strong"].astype(float)
    squares = ((x[:, 2:] - x[:, :-2]) ** 2).sum((1, 2, 3))
    squares += ((x[:, :, 2:] - x[:, :, :-2]) ** 2).sum((1, 2, 3))
    found = _perturbation(method, batch)
    np.testing.assert_allclose(
        _norms(found), 0.5 * 0.5 * np.sqrt(squares), rtol=1e-4
    )
    assert not found[0].any()


def test_fixed_radius_counts_gray_levels_and_leaves_padding():
    method = contract.make("vat", adaptive=False, radius=2.0)
    batch = contract.batch_of(method)
    found = _perturbation(method, batch)
    valid = batch["unlabeled"]["valid"]
    assert not found[~valid].any()
    expected = 2.0 * np.sqrt(3 * valid.sum((1, 2)))
    np.testing.assert_allclose(_norms(found), expected, rtol=1e-4)


def test_step_agrees_with_numpy():
    method = contract.make(
        "vat", teacher_training=False, confidence="off", unsup_weight=2.0
    )
    method.ramp.assign(1.0)
    batch = contract.batch_of(method)
    unlabeled = batch["unlabeled"]
    perturbed = unlabeled["strong"] + _perturbation(method, batch)

    def log_softmax(z):
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    target = log_softmax(method.teacher(unlabeled["weak"]).numpy())
    student = log_softmax(method.student(perturbed).numpy())
    divergence = (np.exp(target) * (target - student)).sum(-1)
    expected = np.mean(divergence * unlabeled["valid"])
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_unsup"], expected, rtol=1e-3)
    np.testing.assert_allclose(
        logs["loss"], logs["loss_sup"] + 2 * logs["loss_unsup"], rtol=1e-6
    )


@pytest.mark.parametrize("network", ["teacher", "student"])
@pytest.mark.parametrize("leak", [False, True])
def test_inference_mode_leaks_only_if_asked(network, leak):
    """Moving statistics tell in which mode a network ran."""
    method = contract.make(
        "vat",
        norm=True,
        direction_network=network,
        leak_inference_mode=leak,
        teacher_statistics="own",
    )

    def moving(part):
        return [v.numpy() for v in part.variables if "moving" in v.name]

    before = {k: moving(n) for k, n in method.networks.items()}
    contract.step(method, contract.batch_of(method))
    for name, part in method.networks.items():
        moved = any((a != b).any() for a, b in zip(before[name], moving(part)))
        assert moved == (not (leak and name == network)), name


def test_wrong_options_are_named():
    for option, value, rule in [
        ("radius", -1.0, "must be 0 or more"),
        ("xi", 0.0, "must be positive"),
        ("iterations", 0, "must be positive"),
        ("direction_network", "both", "must be one of teacher, student"),
    ]:
        with pytest.raises(ValueError, match=f"method.{option}` {rule}"):
            contract.make("vat", **{option: value})
