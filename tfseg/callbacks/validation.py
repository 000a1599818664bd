# SPDX-License-Identifier: Apache-2.0
"""Validation of every network of a method; keeps the best checkpoint."""

import time

from absl import logging
from tensorflow import keras


class Validation(keras.callbacks.Callback):
    """Evaluates every `every` steps and at the end.

    Args:
      evaluate: network -> dict with `miou` and `iou` (see tfseg.metrics).
      draw: () -> uint8 [B, H, W, 3] pictures by the network that was just
        evaluated, or None.
      writer: callbacks.report.Writer, or None on other workers.
      store: callbacks.checkpoint.Store.
      history: callbacks.checkpoint.History.
      every: steps.
      total: steps of the whole run.
      class_names: names of the rows of `iou` of the deployed network.
      score: mIoUs of all networks, that of the deployed one first -> what the
        best checkpoint has most of.
      of_chief: float -> the chief's value on every worker: all must agree
        whether to save, as a save takes all of them.
    """

    def __init__(
        self,
        *,
        evaluate,
        draw,
        writer,
        store,
        history,
        every,
        total,
        class_names,
        score,
        of_chief,
    ):
        super().__init__()
        self._supports_tf_logs = True
        self._evaluate = evaluate
        self._draw = draw
        self._writer = writer
        self._store = store
        self._history = history
        self._every = every
        self._total = total
        self._class_names = class_names
        self._score = score
        self._of_chief = of_chief

    def on_train_begin(self, logs=None):
        self._step = int(self.model.step.numpy())

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        if self._step % self._every == 0 or self._step == self._total:
            self.model.raise_if_not_finite()
            self._validate()

    def _validate(self):
        since = time.perf_counter()
        values, mious = {}, []
        for name, network in self.model.networks.items():
            result = self._evaluate(network)
            if network is self.model.deployed:
                values |= self._per_class(result)
                pictures = self._draw() if self._writer else None
            values[f"val_{name}/miou"] = result["miou"]
            mious.append(result["miou"])
        miou = values["val/miou"] = self._score(mious)
        logging.info(
            "step %d/%d validation mIoU %.4f (%.1f s)",
            self._step,
            self._total,
            miou,
            time.perf_counter() - since,
        )
        if self._writer:
            self._writer.scalars("val", self._step, values)
            if pictures is not None:
                self._writer.images("val", self._step, "val/pictures", pictures)
        self._keep_best(self._of_chief(miou))

    def _per_class(self, result):
        return {
            f"val/iou/{name}": float(iou)
            for name, iou in zip(self._class_names, result["iou"])
        }

    def _keep_best(self, miou):
        self._history.last_miou.assign(miou)
        if miou > float(self._history.best_miou.numpy()):
            self._history.best_miou.assign(miou)
            self._history.best_step.assign(self._step)
            self._store.save("best")
