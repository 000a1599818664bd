# SPDX-License-Identifier: Apache-2.0
"""The teacher as the exponential moving average of the student."""

import tensorflow as tf
from tensorflow import keras

STATISTICS = ("averaged", "copied", "own")


def copy(source, target):
    """Gives one network the variables of another, also BatchNorm's."""
    for old, new in zip(target.variables, source.variables):
        old.assign(new)


class MovingAverage(keras.callbacks.Callback):
    """After every step: teacher = decay * teacher + (1 - decay) * student.

    Args:
      student: keras.Model.
      teacher: keras.Model with the same variables.
      decay: in [0, 1].
      decay_ramp: min(decay, 1 - 1 / n) after the n-th step: the teacher is
        the plain mean of the students so far until that reaches `decay`.
      statistics: moving statistics of BatchNorm: "averaged" like the weights,
        "copied" from the student, or "own" = left to the teacher's passes.

    Source: French et al., official optim_weight_ema.py: every float tensor,
    BatchNorm statistics too ("averaged"), constant decay. The ramp is that of
    Tarvainen and Valpola 2017.
    """

    def __init__(self, student, teacher, *, decay, decay_ramp, statistics):
        super().__init__()
        if statistics not in STATISTICS:
            raise ValueError(
                f"`teacher_statistics` must be one of {STATISTICS}. "
                f"Received: {statistics!r}."
            )
        # Without this, Keras copies the logs to the host after every step.
        self._supports_tf_logs = True
        self._decay = tf.constant(decay, tf.float32)
        self._decay_ramp = decay_ramp
        self._averaged = list(
            zip(teacher.trainable_variables, student.trainable_variables)
        )
        self._copied = []
        moving = zip(
            teacher.non_trainable_variables, student.non_trainable_variables
        )
        floats = [(old, new) for old, new in moving if old.dtype.is_floating]
        if statistics == "averaged":
            self._averaged += floats
        if statistics == "copied":
            self._copied = floats

    def on_train_batch_end(self, batch, logs=None):
        self._update()

    @tf.function(autograph=False)
    def _update(self):
        decay = self._decay
        if self._decay_ramp:
            steps_done = tf.cast(self.model.step, tf.float32)
            decay = tf.minimum(decay, 1.0 - 1.0 / steps_done)
        update = self.model.distribute_strategy.extended.update
        for teacher, student in self._averaged:
            update(teacher, _move, args=(student, 1.0 - decay))
        for teacher, student in self._copied:
            teacher.assign(student)


def _move(teacher, student, rate):
    """teacher -= rate * (teacher - student), on one device."""
    # Of the ways to write it the one that moves the least memory.
    tf.raw_ops.ResourceApplyGradientDescent(
        var=teacher.handle, alpha=rate, delta=teacher - student
    )
