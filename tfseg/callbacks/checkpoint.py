# SPDX-License-Identifier: Apache-2.0
"""The whole state of training on disk, and a clean stop on SIGTERM."""

import os
import signal
import time

import tensorflow as tf
from absl import logging
from tensorflow import keras


class History(tf.Module):
    """What a run remembers beside the method: results and time spent."""

    def __init__(self):
        super().__init__()
        self.last_miou = tf.Variable(-1.0, trainable=False)
        self.best_miou = tf.Variable(-1.0, trainable=False)
        self.best_step = tf.Variable(-1, trainable=False, dtype=tf.int64)
        self.seconds = tf.Variable(0.0, trainable=False, dtype=tf.float64)


class Store:
    """Checkpoints `last` and `best` of a run.

    A checkpoint is complete or not there: TensorFlow writes beside and
    renames, and names a checkpoint in the folder's index file only then.

    Args:
      folder: holds `last/` and `best/`.
      method: methods.base.Method with a built optimizer.
      history: History.
      chief: False on other workers; they take part in the reads that a save
        does, and write to a folder of their own that nobody reads.
    """

    def __init__(self, folder, method, history, *, chief=True, worker=0):
        self._checkpoint = tf.train.Checkpoint(
            method=method, optimizer=method.optimizer, history=history
        )
        self._method = method
        own = folder if chief else os.path.join(folder, f"worker_{worker}")
        self._managers = {
            kind: tf.train.CheckpointManager(
                self._checkpoint,
                os.path.join(own, kind),
                max_to_keep=keep,
                checkpoint_name="ckpt",
            )
            for kind, keep in {"last": 2, "best": 1}.items()
        }
        self._last = os.path.join(folder, "last")

    def restore(self):
        """Restores the last checkpoint, if any.

        Returns:
          bool: whether there was one.

        Raises:
          ValueError: it cannot be read.
        """
        paths = _existing(self._last)
        if not paths:
            return False
        try:
            status = self._checkpoint.restore(paths[-1])
            status.assert_existing_objects_matched()
        except (tf.errors.OpError, AssertionError, IndexError) as error:
            raise ValueError(
                f"Checkpoint {paths[-1]} cannot be restored: {error}. Remove "
                f"{paths[-1]}.* to go on from the one before, or start in a "
                "new workdir."
            ) from error
        return True

    def save(self, kind):
        """Saves as "last" or "best"; the earlier one stays until then.

        Raises:
          OSError: the disk is full or not writable.
        """
        manager = self._managers[kind]
        step = int(self._method.step.numpy())
        try:
            manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            raise OSError(
                f"Checkpoint of step {step} could not be written to "
                f"{manager.directory}: {error}. Free some space and run the "
                "same command again; it resumes from "
                f"{manager.latest_checkpoint or 'the beginning'}."
            ) from error


def _existing(folder):
    """Checkpoints that the folder names and that are there, oldest first."""
    state = tf.train.get_checkpoint_state(folder)
    paths = state.all_model_checkpoint_paths if state else []
    return [path for path in paths if tf.io.gfile.exists(f"{path}.index")]


class SaveLast(keras.callbacks.Callback):
    """Saves every `every` steps, at the end and on SIGTERM.

    Args:
      store: Store.
      history: History, its seconds are kept up to date here.
      every: steps.
      total: steps of the whole run.
      agree: (bool, step) -> bool, whether any worker was asked to stop.
    """

    def __init__(self, store, history, *, every, total, agree):
        super().__init__()
        self._supports_tf_logs = True
        self._store = store
        self._history = history
        self._every = every
        self._total = total
        self._agree = agree
        self._asked = False
        self._previous = None
        self.stopped = False

    def on_train_begin(self, logs=None):
        self._step = int(self.model.step.numpy())
        self._since = time.perf_counter()
        self._previous = signal.signal(signal.SIGTERM, self._on_sigterm)

    def close(self):
        """Gives SIGTERM back; Keras calls no `on_train_end` after an error."""
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
        self._previous = None

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        due = self._step % self._every == 0 or self._step == self._total
        self.stopped = self._agree(self._asked, self._step)
        if due or self.stopped:
            self.model.raise_if_not_finite()
            self.model.synchronize_statistics()
            self._count_seconds()
            self._store.save("last")
        if self.stopped:
            logging.info("SIGTERM: saved at step %d and stopped.", self._step)
            self.model.stop_training = True

    def _count_seconds(self):
        now = time.perf_counter()
        self._history.seconds.assign_add(now - self._since)
        self._since = now

    def _on_sigterm(self, number, frame):
        # Only a flag: the handler may interrupt a step anywhere.
        self._asked = True
