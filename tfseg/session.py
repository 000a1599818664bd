# SPDX-License-Identifier: Apache-2.0
"""One process of one training run: builds the parts, fits, sums up."""

import hashlib
import os

import tensorflow as tf
from absl import logging
from tensorflow import keras

from tfseg import (
    evaluate,
    examples,
    inference,
    optimizers,
    pseudo_labels,
    report,
    runs,
    schedules,
)
from tfseg import strategy as strategies
from tfseg.callbacks import checkpoint, moving_average, progress
from tfseg.callbacks import report as reporting
from tfseg.callbacks import validation
from tfseg.data import augmentation, check, order, pipeline

# Streams of one run draw from seeds of their own.
_LABELED_STREAM, _UNLABELED_STREAM = 0, 1
# What a damaged, and what a missing file leads to.
_INPUT_ERRORS = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError)


class Session:
    """The parts of a run, restored to where its workdir stands.

    Args:
      config: ConfigDict, see tfseg.config.
      workdir: folder of the run.
      strategy: tf.distribute.Strategy.
      method_leaf: module of `tfseg.methods`.
      dataset: datasets.base.Dataset.
      split: data.splits.Split.
    """

    def __init__(self, config, workdir, strategy, method_leaf, dataset, split):
        self.config, self.workdir, self.strategy = config, workdir, strategy
        self.dataset, self.split = dataset, split
        self.info = dataset.info
        # Of a method that learns them.
        self.pseudo_labels = os.path.join(workdir, "pseudo_labels")
        worker, _ = strategies.worker(strategy)
        self.chief = worker == 0
        self.agreement = strategies.Agreement(strategy)
        with strategy.scope():
            self.method = self._build_method(method_leaf)
            self.history = checkpoint.History()
            self.store = checkpoint.Store(
                os.path.join(workdir, "checkpoints"),
                self.method,
                self.history,
                chief=self.chief,
                worker=worker,
            )
            resumed = self.store.restore()
        self.start = int(self.method.step.numpy())
        if resumed:
            logging.info("resuming from step %d", self.start)
        # Copies on one device: replicas and workers that normalize by batches
        # of their own are averaged into them, as they are in a checkpoint.
        self.predictors = {
            runs.network_section(config, place): self._build_predictor(place)
            for place in self._different_places()
        }

    def _different_places(self):
        """Places of the networks that differ in form."""
        several = len(self.method.NETWORKS) > 1
        return (0, 1) if several and self.config.get("second_network") else (0,)

    def _build_predictor(self, place):
        return inference.Predictor(
            runs.build_network(self.config, self.info.num_classes, place),
            window=self.config.evaluate.window,
            overlap=self.config.evaluate.overlap,
        )

    def _predictor_of(self, network):
        """A predictor whose network has the form of the given one."""
        networks = self.method.networks.values()
        (place,) = [i for i, other in enumerate(networks) if other is network]
        return self.predictors[runs.network_section(self.config, place)]

    def _build_method(self, leaf):
        options = dict(self.config.method)
        options.pop("name")
        method = leaf.build(
            lambda place=0: runs.build_network(
                self.config, self.info.num_classes, place
            ),
            seed=self.config.seed,
            **options,
        )
        method.compile(
            self._build_optimizer(method),
            jit_compile=self.config.runtime.xla,
        )
        method.optimizer.build(method.trained)
        return method

    def _build_optimizer(self, method):
        options = dict(self.config.optimizer)
        rate = schedules.learning_rate(
            options.pop("schedule"),
            base_rate=options.pop("learning_rate"),
            total_steps=self.config.train.steps,
            power=options.pop("power"),
            warmup_steps=options.pop("warmup_steps"),
        )
        multiplier = options.pop("pretrained_multiplier")
        optimizer = optimizers.build(
            options.pop("name"), learning_rate=rate, **options
        )
        for network in method.networks.values():
            optimizer.set_multipliers(
                network.encoder.pretrained_variables, multiplier
            )
        return optimizer

    def run(self):
        """Trains what is left; returns the summary."""
        steps = self.config.train.steps
        writer = self._writer() if self.chief else None
        save_last = checkpoint.SaveLast(
            self.store,
            self.history,
            every=self.config.train.checkpoint_every,
            total=steps,
            agree=self.agreement.stop,
        )
        if self.start < steps:
            self._fit(
                [
                    *self.method.step_callbacks(),
                    *self._callbacks(writer),
                    save_last,
                ]
            )
        done = int(self.method.step.numpy())
        if save_last.stopped and done < steps:
            raise InterruptedError(
                f"Stopped by SIGTERM at step {done} of {steps}, saved. The "
                "same command resumes."
            )
        return self._summary()

    def _fit(self, callbacks):
        batches = self.strategy.distribute_datasets_from_function(self._batches)
        callbacks = keras.callbacks.CallbackList(callbacks, model=self.method)
        # Keras takes validation and saves for slow steps and warns of them.
        callbacks._check_timing = False
        try:
            self.method.fit(
                batches,
                steps_per_epoch=self.config.train.steps - self.start,
                epochs=1,
                callbacks=callbacks,
                verbose=0,
            )
        except _INPUT_ERRORS:
            self._explain()
            raise
        finally:
            for callback in callbacks:
                getattr(callback, "close", lambda: None)()

    def _batches(self, context):
        train_config, method = self.config.train, self.method
        part = order.Slice(
            worker=context.input_pipeline_id,
            num_workers=context.num_input_pipelines,
            replicas=context.num_replicas_in_sync
            // context.num_input_pipelines,
        )
        options = dict(self.config.data)
        options.pop("max_pixels")
        options.pop("records")
        shared = dict(
            augmentation=augmentation.Augmentation(**options),
            start=self.start,
            stop=train_config.steps,
            part=part,
        )
        streams = {
            "labeled": pipeline.stream(
                examples.pool(self.dataset, self.split.labeled),
                view=method.LABELED_VIEW,
                batch=train_config.labeled_batch,
                seed=(self.config.seed, _LABELED_STREAM),
                **shared,
            )
        }
        if method.UNLABELED_VIEW:
            streams["unlabeled"] = pipeline.stream(
                self._unlabeled_pool(),
                view=method.UNLABELED_VIEW,
                batch=train_config.unlabeled_batch,
                seed=(self.config.seed, _UNLABELED_STREAM),
                **shared,
            )
        return pipeline.together(streams)

    def _unlabeled_pool(self):
        if self.method.PSEUDO_LABELED:
            ids = pseudo_labels.ids(self.split)
            return pseudo_labels.pool(self.dataset, ids, self.pseudo_labels)
        return examples.pool(self.dataset, self.split.unlabeled, labeled=False)

    def count(self, seconds):
        """Adds to the time of a run that has not begun."""
        if self.start == 0:
            self.history.seconds.assign(seconds)

    def _callbacks(self, writer):
        train_config = self.config.train
        callbacks = [
            reporting.Report(
                writer,
                every=train_config.report_every,
                total=train_config.steps,
                images_per_step=self._images_per_step(),
                class_names=self.info.class_names,
                ramps=self.method.ramps,
            )
        ]
        if self.split.validation:
            callbacks.append(
                validation.Validation(
                    evaluate=self._evaluate,
                    draw=self._draw,
                    writer=writer,
                    store=self.store,
                    history=self.history,
                    every=train_config.evaluate_every,
                    total=train_config.steps,
                    class_names=self.info.class_names,
                    of_chief=self.agreement.of_chief,
                )
            )
        if self.chief:
            name = f"{self.config.dataset.name} {self.config.method.name}"
            callbacks.append(progress.Progress(train_config.steps, name))
        return callbacks

    def _images_per_step(self):
        train_config = self.config.train
        if self.method.UNLABELED_VIEW:
            return train_config.labeled_batch + train_config.unlabeled_batch
        return train_config.labeled_batch

    def _writer(self):
        writer = reporting.Writer(self.workdir, self.start)
        if self.start == 0:
            text = self.config.to_json(indent=2)
            writer.text("train", 0, "config", f"```json\n{text}\n```")
        return writer

    def _evaluate(self, network):
        predictor = self._predictor_of(network)
        moving_average.copy(network, predictor.network)
        return evaluate.evaluate(
            predictor,
            self._validation_batches(),
            self.info,
            absent=self.config.evaluate.absent,
        )

    def _validation_batches(self):
        return pipeline.evaluation_batches(
            examples.pool(self.dataset, self.split.validation),
            batch=self.config.evaluate.batch,
        )

    def _draw(self):
        # Of the copy as it stands: only the chief draws, so it must not wait
        # for other workers to read a variable.
        count = self.config.train.num_pictures
        if not count:
            return None
        pictured = pipeline.evaluation_batches(
            examples.pool(self.dataset, self.split.validation[:count]), batch=1
        )
        predictor = self._predictor_of(self.method.deployed)
        return report.pictures(predictor, pictured, self.info)

    def _explain(self):
        """Names the files behind a failure of the input pipeline.

        Raises:
          ValueError: with the broken files.
        """
        parts = (self.split.labeled, self.split.unlabeled)
        names = sorted({*self.split.validation}.union(*parts))
        logging.info("looking for the file that could not be read ...")
        pool = examples.pool(self.dataset, names, labeled=False)
        check.raise_on(pool.damaged())

    def _summary(self):
        summary = {
            "steps": int(self.method.step.numpy()),
            "final_miou": _number(self.history.last_miou),
            "best_miou": _number(self.history.best_miou),
            "best_step": int(self.history.best_step.numpy()),
            "seconds": round(float(self.history.seconds.numpy()), 1),
            "sha256": digest(self.method.deployed),
        }
        if self.chief:
            runs.write_json(os.path.join(self.workdir, "summary.json"), summary)
        return summary


def digest(network):
    """sha256 of all variables of a network, in their order of creation."""
    sha = hashlib.sha256()
    for variable in network.variables:
        sha.update(variable.numpy().tobytes())
    return sha.hexdigest()


def _number(variable):
    """A recorded mIoU; None where nothing was evaluated."""
    value = float(variable.numpy())
    return value if value >= 0 else None
