# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
from tensorflow import keras

from tests.methods import contract_test as contract


class _Seen(keras.callbacks.Callback):
    """The ramp that each step was taken with."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(self.model.ramp.numpy())


def test_ramp_is_that_of_the_step():
    seen = _Seen()
    method = contract.make("mean_teacher", ramp="sigmoid", ramp_steps=4)
    contract.fit(method, 6, [seen])
    # exp(-5 (1 - t)^2) for t = 0, 1/4, 1/2, 3/4, 1, 1
    expected = [math.exp(-5 * (1 - min(k / 4, 1)) ** 2) for k in range(6)]
    np.testing.assert_allclose(seen.values, expected, rtol=1e-6)
