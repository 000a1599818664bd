# SPDX-License-Identifier: Apache-2.0
"""Steps of `cct` whose unlabeled images have weak labels."""

import numpy as np
import pytest
from tensorflow import keras

from tests.methods import cct_test
from tests.methods import contract_test as contract


def test_the_weak_loss_is_ramped_and_reported():
    method = cct_test.make(decoders=cct_test.FEW, weak_weight=0.4)
    method.ramp.assign(0.25)
    batch = cct_test.with_labels(contract.batch_of(method))
    logs = contract.step(method, batch)
    assert list(logs) == list(method.SCALARS)
    assert method.SCALARS[-1] == "loss_weak"
    unsup = method.unsup_weight * logs["loss_unsup"]
    np.testing.assert_allclose(
        logs["loss"],
        logs["loss_sup"] + 0.25 * (unsup + 0.4 * logs["loss_weak"]),
        rtol=1e-6,
    )


# The contract has the other number of replicas for each.
@pytest.mark.parametrize(
    "precision, replicas", [("mixed_float16", 1), ("mixed_bfloat16", 2)]
)
def test_weak_labels_in_mixed_precision(precision, replicas, monkeypatch):
    keras.mixed_precision.set_global_policy(precision)
    original = contract.batch_of
    monkeypatch.setattr(
        contract,
        "batch_of",
        lambda method, seed=0: cct_test.with_labels(original(method, seed)),
    )
    try:
        method = contract.make(
            "cct", replicas, norm=True, decoders=cct_test.FEW, weak_weight=0.4
        )
        logs = contract.fit(method).history
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert all(np.isfinite(logs[name]).all() for name in method.SCALARS)
    assert 0.5 < logs["loss_weak"][0] < 2.5
    method.raise_if_not_finite()


def test_two_replicas_share_the_weak_labels(monkeypatch):
    """Which are not equally many in both."""
    original = contract.batch_of

    def batch_of(method, seed=0):
        batch = cct_test.with_labels(original(method, seed))
        batch["unlabeled"]["label"][0] = 255
        return batch

    monkeypatch.setattr(contract, "batch_of", batch_of)
    one, two = (
        contract.make("cct", n, decoders=cct_test.FEW, weak_weight=0.4)
        for n in (1, 2)
    )
    logs = contract.fit(one, 3).history, contract.fit(two, 3).history
    np.testing.assert_allclose(
        logs[0]["loss_weak"], logs[1]["loss_weak"], rtol=1e-5
    )
    for a, b in zip(one.trained, two.trained):
        np.testing.assert_allclose(a, b, atol=1e-6)
