# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from tensorflow import keras

from tests.methods import contract_test as contract


class _Seen(keras.callbacks.Callback):
    """The ramp that each step was taken with."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(self.model.ramp.numpy())


@pytest.mark.parametrize("parts", [(6,), (2, 4), (5, 1)])
def test_ramp_is_that_of_the_step(parts):
    seen = _Seen()
    method = contract.make("mean_teacher", ramp="sigmoid", ramp_steps=4)
    for steps in parts:
        contract.fit(method, steps, [seen])
    # exp(-5 (1 - t)^2) for t = 0, 1/4, 1/2, 3/4, 1, 1
    expected = [math.exp(-5 * (1 - min(k / 4, 1)) ** 2) for k in range(6)]
    np.testing.assert_allclose(seen.values, expected, rtol=1e-6)


def test_a_run_that_begins_after_the_end_of_its_ramp_has_its_end():
    method = contract.make("mean_teacher", ramp="sigmoid", ramp_steps=4)
    method.step.assign(9)
    contract.fit(method, 1)
    assert method.ramp.numpy() == 1
