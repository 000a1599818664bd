# SPDX-License-Identifier: Apache-2.0
"""A variable that follows a schedule of the step."""

import tensorflow as tf
from tensorflow import keras


class Ramp(keras.callbacks.Callback):
    """Before every step: variable = schedule(step).

    Args:
      variable: float32 scalar variable of the method.
      schedule: int64 scalar tensor, the step -> float32 scalar.
    """

    def __init__(self, variable, schedule):
        super().__init__()
        self._supports_tf_logs = True
        self._variable = variable
        self._schedule = schedule

    def on_train_batch_begin(self, batch, logs=None):
        self._update()

    @tf.function(autograph=False)
    def _update(self):
        self._variable.assign(self._schedule(self.model.step))
