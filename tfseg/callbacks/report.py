# SPDX-License-Identifier: Apache-2.0
"""Scalars of training to TensorBoard, metrics.jsonl and the log."""

import json
import math
import os
import time

import tensorflow as tf
from absl import logging
from tensorflow import keras

# Linux has it.
MEMORY = "/proc/self/statm"


class Writer:
    """One sink for numbers and pictures; only the chief has one.

    Args:
      workdir: gets `train/`, `val/` (TensorBoard) and `metrics.jsonl`.
      step: the step that training starts from; later lines of an interrupted
        run are dropped from metrics.jsonl, as they will be written again.
    """

    def __init__(self, workdir, step):
        self._workdir = workdir
        self._jsonl = os.path.join(workdir, "metrics.jsonl")
        self._folders = {}
        self._keep_until(step)

    def _keep_until(self, step):
        if not os.path.exists(self._jsonl):
            return
        with open(self._jsonl, encoding="utf-8") as file:
            lines = [line for line in file if _step_of(line) <= step]
        partial = self._jsonl + ".partial"
        with open(partial, "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.replace(partial, self._jsonl)

    def _folder(self, phase):
        if phase not in self._folders:
            self._folders[phase] = tf.summary.create_file_writer(
                os.path.join(self._workdir, phase)
            )
        return self._folders[phase]

    def scalars(self, phase, step, values):
        """values: {tag: float}, tags like "train/loss"; nan becomes null."""
        with self._folder(phase).as_default(step):
            for tag, value in values.items():
                if math.isfinite(value):
                    tf.summary.scalar(tag, value)
        self._folder(phase).flush()
        values = {
            tag: round(value, 7) if math.isfinite(value) else None
            for tag, value in values.items()
        }
        with open(self._jsonl, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | values) + "\n")

    def images(self, phase, step, tag, images):
        """images: uint8 [B, H, W, 3]."""
        with self._folder(phase).as_default(step):
            tf.summary.image(tag, images, max_outputs=len(images))
        self._folder(phase).flush()

    def text(self, phase, step, tag, text):
        """text: Markdown."""
        with self._folder(phase).as_default(step):
            tf.summary.text(tag, text)
        self._folder(phase).flush()


def _step_of(line):
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        # The last line of a killed run may be half written.
        return math.inf


class Report(keras.callbacks.Callback):
    """Every `every` steps: means of the scalars, learning rate, images/s, RAM.

    Args:
      writer: Writer, or None on workers other than the chief.
      every: steps.
      total: steps of the whole run.
      images_per_step: over all replicas.
      class_names: for the vectors with one number a class.
      ramps: {name: float32 scalar variable} to log beside.
    """

    def __init__(
        self, writer, *, every, total, images_per_step, class_names, ramps
    ):
        super().__init__()
        self._supports_tf_logs = True
        self._writer = writer
        self._every = every
        self._total = total
        self._images_per_step = images_per_step
        self._class_names = class_names
        self._ramps = ramps

    def on_train_begin(self, logs=None):
        self._step = int(self.model.step.numpy())
        self._since_step, self._since = self._step, time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        if self._step % self._every and self._step != self._total:
            return
        self.model.raise_if_not_finite()
        values = self._values(logs)
        self.model.reset_metrics()
        self._since_step, self._since = self._step, time.perf_counter()
        if self._writer:
            self._writer.scalars("train", self._step, values)
            logging.info(
                "step %d/%d %s", self._step, self._total, _line(values)
            )

    def _values(self, logs):
        values = {}
        for name, value in logs.items():
            values |= self._named(name, value.numpy())
        steps = self._step - self._since_step
        seconds = time.perf_counter() - self._since
        values["train/steps_per_second"] = steps / seconds
        values["train/images_per_second"] = (
            steps * self._images_per_step / seconds
        )
        values["train/learning_rate"] = float(
            tf.convert_to_tensor(self.model.optimizer.learning_rate)
        )
        for name, variable in self._ramps.items():
            values[f"train/{name}"] = float(variable.numpy())
        if os.path.exists(MEMORY):
            values["train/resident_mib"] = resident_mib()
        return values

    def _named(self, name, value):
        if value.ndim == 0:
            return {f"train/{name}": float(value)}
        return {
            f"train/{name}/{class_name}": float(share)
            for class_name, share in zip(self._class_names, value)
        }


def resident_mib():
    """Memory of this process that is in RAM; where there is a /proc."""
    with open(MEMORY, encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _line(values):
    short = {
        tag.removeprefix("train/"): value
        for tag, value in values.items()
        if tag.count("/") == 1
    }
    return " ".join(f"{name}={value:.4g}" for name, value in short.items())
