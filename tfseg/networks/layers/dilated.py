# SPDX-License-Identifier: Apache-2.0
"""Dilated convolution, computed in the way that is fastest here."""

from tensorflow import keras

IMPLEMENTATIONS = ("auto", "native", "taps")


class Conv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D with the same variables and the same result.

    Args:
      implementation: "native", "taps" or "auto".
      **options: of keras.layers.Conv2D.
    """

    def __init__(self, *, implementation="auto", **options):
        super().__init__(**options)
        self.implementation = implementation
