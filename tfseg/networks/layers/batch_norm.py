# SPDX-License-Identifier: Apache-2.0
"""BatchNorm with the choices on which the papers differ."""

import functools

from tensorflow import keras


def factory(*, momentum=0.9, epsilon=1e-5, synchronized=False, frozen=False):
    """A function without arguments that makes one BatchNorm layer.

    Args:
      momentum: what the running statistics keep per step, in [0, 1). PyTorch
        counts the other way round: its 0.1 is 0.9 here.
      epsilon: added to the variance. The fused kernel uses at least 1.001e-5.
      synchronized: take batch statistics over all replicas.
      frozen: always normalize with the running statistics and train neither
        gamma nor beta. Never a way to freeze a teacher.

    Raises:
      ValueError: if `momentum` or `epsilon` is out of range.
    """
    if not 0 <= momentum < 1:
        raise ValueError(
            "`batch_norm_momentum` must be in [0, 1). "
            f"Received: batch_norm_momentum={momentum}."
        )
    if epsilon <= 0:
        raise ValueError(
            "`batch_norm_epsilon` must be positive. "
            f"Received: batch_norm_epsilon={epsilon}."
        )
    return functools.partial(
        keras.layers.BatchNormalization,
        momentum=momentum,
        epsilon=epsilon,
        synchronized=synchronized,
        trainable=not frozen,
    )
