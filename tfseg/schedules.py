# SPDX-License-Identifier: Apache-2.0
"""Schedules: a step gives a learning rate, or a weight in [0, 1]."""

import math

import tensorflow as tf
from tensorflow import keras

LEARNING_RATES = ("constant", "poly", "cosine")


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0, then another schedule at its own, unshifted step.

    Args:
      base_rate: rate that the line would reach at `warmup_steps`.
      warmup_steps: length of the line, steps; step 0 has rate 0.
      after: schedule, or a constant rate.

    Source: CPS furnace/engine/lr_policy.py:WarmUpPolyLR. The rate jumps from
    the line to the decayed curve.
    """

    def __init__(self, base_rate, warmup_steps, after):
        super().__init__()
        self.base_rate = base_rate
        self.warmup_steps = warmup_steps
        self.after = after

    def __call__(self, step):
        # Divided in float64: as float32 a step is exact only below 2^24.
        step = tf.convert_to_tensor(step)
        part = tf.cast(step, tf.float64) / self.warmup_steps
        after = self.after(step) if callable(self.after) else self.after
        return tf.where(
            part < 1, self.base_rate * tf.cast(part, tf.float32), after
        )

    def get_config(self):
        return {
            "base_rate": self.base_rate,
            "warmup_steps": self.warmup_steps,
            "after": self.after,
        }


def learning_rate(name, *, base_rate, total_steps, power=0.9, warmup_steps=0):
    """Learning rate of a whole training.

    Args:
      name: "constant", "poly" (base_rate * (1 - step / total_steps)^power) or
        "cosine" (half a period down to 0).
      base_rate: rate at step 0, without warm-up.
      total_steps: step at which "poly" and "cosine" are 0.
      power: of "poly".
      warmup_steps: see `WarmUp`; 0 = none.

    Returns:
      A `LearningRateSchedule`, or `base_rate` if it is constant.

    Raises:
      ValueError: if the name is unknown, or the warm-up too long.
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"`warmup_steps` must be in [0, {total_steps}], the steps of the "
            f"training. Received: warmup_steps={warmup_steps}."
        )
    if name == "constant":
        rate = base_rate
    elif name == "poly":
        rate = keras.optimizers.schedules.PolynomialDecay(
            base_rate, total_steps, end_learning_rate=0.0, power=power
        )
    elif name == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(base_rate, total_steps)
    else:
        raise ValueError(
            f"`schedule` must be one of {', '.join(LEARNING_RATES)}. "
            f"Received: {name!r}."
        )
    return WarmUp(base_rate, warmup_steps, rate) if warmup_steps else rate


# Of t in [0, 1]. Source: CCT utils/ramps.py; the CCT paper's eq. 10 is "exp",
# its code and the mean teacher use "sigmoid". "log" ends at 1 - e^-5.
RAMPS = {
    "none": tf.ones_like,
    "linear": tf.identity,
    "sigmoid": lambda t: tf.exp(-5 * tf.square(1 - t)),
    "exp": lambda t: tf.exp(5 * (t - 1)),
    "log": lambda t: 1 - tf.exp(-5 * t),
    "cosine": lambda t: (1 - tf.cos(math.pi * t)) / 2,
}


def ramp(name, step, ramp_steps):
    """Factor that grows over the first steps, for an unsupervised weight.

    Args:
      name: "none" (always 1), "linear", "sigmoid", "exp", "log" or "cosine".
      step: int or float scalar (tensor), from 0.
      ramp_steps: length T, steps; constant afterwards. 0 gives 1 at once.

    Returns:
      float32 scalar in [0, 1].

    Raises:
      ValueError: if the name is unknown.
    """
    if name not in RAMPS:
        raise ValueError(
            f"`ramp` must be one of {', '.join(RAMPS)}. Received: {name!r}."
        )
    step = tf.cast(step, tf.float64)
    length = tf.cast(ramp_steps, tf.float64)
    t = tf.clip_by_value(tf.math.divide_no_nan(step, length), 0.0, 1.0)
    value = tf.where(length > 0, RAMPS[name](t), 1.0)
    return tf.cast(value, tf.float32)
