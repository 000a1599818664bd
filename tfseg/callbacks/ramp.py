# SPDX-License-Identifier: Apache-2.0
"""A variable that follows a ramp of the step."""

import tensorflow as tf
from tensorflow import keras

from tfseg import schedules


class Ramp(keras.callbacks.Callback):
    """Before every step: variable = `schedules.ramp` of the step.

    Args:
      variable: float32 scalar variable of the method.
      name: see `schedules.ramp`.
      steps: length of the ramp; nothing is done once it has ended.
    """

    def __init__(self, variable, name, steps):
        super().__init__()
        self._supports_tf_logs = True
        self._variable = variable
        self._name, self._steps = name, steps

    def on_train_begin(self, logs=None):
        # Counted here: reading the step would wait for the device.
        done = int(self.model.step.numpy())
        self._left = max(1, 1 + self._steps - done)

    def on_train_batch_begin(self, batch, logs=None):
        if self._left:
            self._left -= 1
            self._update()

    @tf.function(autograph=False)
    def _update(self):
        value = schedules.ramp(self._name, self.model.step, self._steps)
        self._variable.assign(value)
