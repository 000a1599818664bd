# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests.methods import contract_test as contract
from tfseg.ops import losses


def _cross_entropy(logits, label):
    """Mean over the pixels that have a class, in numpy."""
    top = logits - logits.max(-1, keepdims=True)
    log_prob = top - np.log(np.exp(top).sum(-1, keepdims=True))
    has = label != 255
    chosen = np.where(has, label, 0)[..., None]
    return -np.take_along_axis(log_prob, chosen, -1)[..., 0][has].mean()


def test_loss_is_the_sum_of_two_means():
    method = contract.make("self_training", unsup_weight=0.5)
    batch = contract.batch_of(method)
    batch["unlabeled"]["label"][0] = 255
    parts = batch["labeled"], batch["unlabeled"]
    sup, unsup = (
        _cross_entropy(method.student(x["image"]).numpy(), x["label"])
        for x in parts
    )
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_sup"], sup, rtol=1e-5)
    np.testing.assert_allclose(logs["loss_unsup"], unsup, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], sup + 0.5 * unsup, rtol=1e-5)


@pytest.mark.parametrize("weight, labeled", [(0.0, True), (1.0, False)])
def test_nothing_to_learn_from_pseudo_labels_is_supervised_training(
    weight, labeled
):
    """Weight 0, and no pixel with a pseudo label, bit for bit."""
    methods = [
        contract.make("self_training", unsup_weight=weight),
        contract.make("supervised"),
    ]
    batch = contract.batch_of(methods[0])
    if not labeled:
        batch["unlabeled"]["label"][:] = 255
    for method in methods:
        contract.step(method, batch)
    for a, b in zip(*(contract.values(m.student) for m in methods)):
        np.testing.assert_array_equal(a, b)


def test_ohem_is_for_true_labels_alone():
    method = contract.make(
        "self_training", supervised="ohem", ohem_min_kept=5, ohem_threshold=0.2
    )
    batch = contract.batch_of(method)
    logits = method.student(batch["labeled"]["image"])
    hard = losses.ohem_cross_entropy(
        logits,
        tf.constant(batch["labeled"]["label"]),
        threshold=0.2,
        min_kept=5 * contract.BATCH,
    )
    unlabeled = batch["unlabeled"]
    unsup = _cross_entropy(
        method.student(unlabeled["image"]).numpy(), unlabeled["label"]
    )
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_sup"], hard, rtol=1e-5)
    np.testing.assert_allclose(logs["loss_unsup"], unsup, rtol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"threshold": 1.5}, "`config.method.threshold` must be in"),
        ({"unsup_weight": -1}, "`config.method.unsup_weight` must be 0"),
    ],
)
def test_bad_option_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        contract.make("self_training", **changes)
