# SPDX-License-Identifier: Apache-2.0
"""A bar on the screen: steps done, steps a second, time left."""

import sys

import tqdm
from absl import logging
from tensorflow import keras


class Progress(keras.callbacks.Callback):
    """Progress bar of training.

    Args:
      total: steps of the whole run.
      name: stands before the bar.
    """

    def __init__(self, total, name):
        super().__init__()
        self._supports_tf_logs = True
        self._total = total
        self._name = name

    def on_train_begin(self, logs=None):
        self._bar = tqdm.tqdm(
            total=self._total,
            initial=int(self.model.step.numpy()),
            desc=self._name,
            unit="step",
            dynamic_ncols=True,
            # A file or a pipe gets a line now and then, not ten a second.
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
        )
        logging.get_absl_handler().addFilter(self._make_room)

    def on_train_batch_end(self, batch, logs=None):
        self._bar.update()

    def close(self):
        """Ends the bar; Keras calls no `on_train_end` after an error."""
        logging.get_absl_handler().removeFilter(self._make_room)
        self._bar.close()

    def _make_room(self, record):
        """Takes the bar off the line that a message is about to be put on."""
        self._bar.clear()
        return True
