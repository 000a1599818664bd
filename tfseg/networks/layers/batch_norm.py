# SPDX-License-Identifier: Apache-2.0
"""BatchNorm with the choices on which the papers differ."""

import functools

from tensorflow import keras

from tfseg import lookup


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
            "`batch_norm.momentum` must be in [0, 1). "
            f"Received: batch_norm.momentum={momentum}."
        )
    if epsilon <= 0:
        raise ValueError(
            "`batch_norm.epsilon` must be positive. "
            f"Received: batch_norm.epsilon={epsilon}."
        )
    return functools.partial(
        keras.layers.BatchNormalization,
        momentum=momentum,
        epsilon=epsilon,
        synchronized=synchronized,
        trainable=not frozen,
    )


def factories(options, **defaults):
    """Of a network: the factory for its encoder and that for its decoder.

    Args:
      options: mapping with arguments of `factory`, or None. `frozen` is for
        the encoder alone.
      **defaults: for what `options` leaves out.

    Raises:
      ValueError: an unknown option, or one that is out of range.
    """
    options = {**defaults, **(options or {})}
    lookup.check_arguments(factory, options, "config.network.batch_norm")
    encoder = factory(**options)
    return encoder, factory(**{**options, "frozen": False})
