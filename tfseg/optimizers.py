# SPDX-License-Identifier: Apache-2.0
"""Keras optimizers with a learning rate and a weight decay per variable.

Works under every strategy and precision, where MultiOptimizer of
tensorflow-addons fails. Differs from torch: Keras' SGD keeps
`rate * gradient` in the momentum, torch `gradient`, so that under a decaying
rate the two drift apart slightly; Adam's epsilon stands before the bias
correction, in torch after it.
"""

import tensorflow as tf
from tensorflow import keras


class _PerVariable:
    """Mixin before a Keras 2.15 optimizer.

    Args:
      decay: of the weights, per step; stands for Keras' `weight_decay`, which
        knows neither the multipliers nor a coupled form.
      coupled: add `decay * variable` to the gradient (L2); False: subtract
        `rate * decay * variable` from the variable, besides the step.
      decay_norm_and_bias: also decay variables of rank 0 and 1.
      **options: of the Keras optimizer.
    """

    def __init__(self, *, decay, coupled, decay_norm_and_bias, **options):
        self._multiplier = 1.0
        # XLA-compiled updates would be traced once per shape, and need a GPU.
        super().__init__(jit_compile=False, **options)
        self._multipliers = {}
        self._decay = decay
        self._coupled = coupled
        self._decay_norm_and_bias = decay_norm_and_bias

    def set_multipliers(self, variables, multiplier):
        """Multiplies the learning rate of some variables.

        To be called before the first step is traced, and on the optimizer
        itself, not on a LossScaleOptimizer around it.

        Args:
          variables: of the model, as the strategy created them.
          multiplier: float >= 0; the last one set for a variable counts.

        Raises:
          ValueError: if the multiplier is negative.
        """
        if multiplier < 0:
            raise ValueError(
                "`pretrained_multiplier` must not be negative. "
                f"Received: {multiplier}."
            )
        for variable in variables:
            self._multipliers[self._var_key(variable)] = float(multiplier)

    @property
    def learning_rate(self):
        """The rate; inside `update_step`, that of the variable in hand."""
        rate = super().learning_rate
        return rate if self._multiplier == 1 else rate * self._multiplier

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        keras.optimizers.Optimizer.learning_rate.fset(self, learning_rate)

    def update_step(self, gradient, variable):
        # Under a strategy this is one replica's component of the variable,
        # which only `_var_key` leads back to the whole.
        key = self._var_key(variable)
        self._multiplier = self._multipliers.get(key, 1.0)
        try:
            if self._decays(variable):
                gradient = self._decay_weights(gradient, variable)
            super().update_step(gradient, variable)
        finally:
            self._multiplier = 1.0

    def _decays(self, variable):
        matrix = variable.shape.rank > 1
        return self._decay > 0 and (matrix or self._decay_norm_and_bias)

    def _decay_weights(self, gradient, variable):
        decay = tf.cast(self._decay, variable.dtype)
        if self._coupled:
            return gradient + decay * variable
        rate = tf.cast(self.learning_rate, variable.dtype)
        variable.assign_sub(rate * decay * variable)
        return gradient


class _SGD(_PerVariable, keras.optimizers.SGD):
    pass


class _Adam(_PerVariable, keras.optimizers.Adam):
    pass


NAMES = ("sgd", "adam", "adamw")


def build(
    name,
    *,
    learning_rate,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    coupled_weight_decay,
    decay_norm_and_bias=False,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-7,
):
    """An optimizer with `set_multipliers(variables, multiplier)`.

    Args:
      name: "sgd", "adam", or "adamw" (adam with decoupled weight decay).
      learning_rate: float or LearningRateSchedule.
      momentum, nesterov: of "sgd".
      weight_decay: per step.
      coupled_weight_decay: True: L2, added to the gradient (torch SGD, Adam);
        False: decoupled, `variable -= rate * weight_decay * variable`.
      decay_norm_and_bias: also decay variables of rank 0 and 1, that is
        normalization scales, offsets and biases.
      beta_1, beta_2, epsilon: of "adam" and "adamw".

    Returns:
      A Keras optimizer. Weight decay uses the multiplied rate as well.

    Raises:
      ValueError: if the name is unknown, or adamw's decay is to be coupled.
    """
    if name not in NAMES:
        raise ValueError(
            f"`optimizer` must be one of {', '.join(NAMES)}. "
            f"Received: {name!r}."
        )
    if name == "adamw" and weight_decay and coupled_weight_decay:
        raise ValueError(
            "`coupled_weight_decay` must be False for adamw, whose weight "
            "decay is decoupled. Received: True. For the coupled form use "
            "adam."
        )
    shared = {
        "learning_rate": learning_rate,
        "decay": weight_decay,
        "coupled": coupled_weight_decay,
        "decay_norm_and_bias": decay_norm_and_bias,
    }
    if name == "sgd":
        return _SGD(momentum=momentum, nesterov=nesterov, **shared)
    return _Adam(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, **shared)
