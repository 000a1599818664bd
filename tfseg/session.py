# SPDX-License-Identifier: Apache-2.0
"""One process of one training run: builds the parts, fits, sums up."""

import functools
import hashlib
import os
import statistics

import tensorflow as tf
from absl import logging
from tensorflow import keras

from tfseg import evaluate, inference, optimizers, report, runs, schedules
from tfseg import strategy as strategies
from tfseg.callbacks import checkpoint, moving_average, progress
from tfseg.callbacks import report as reporting
from tfseg.callbacks import validation
from tfseg.data import check, order, pipeline

# What a damaged, and what a missing file leads to.
_INPUT_ERRORS = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError)


class Session:
    """The parts of a run, restored to where its workdir stands.

    Args:
      config: ConfigDict, see tfseg.config.
      workdir: folder of the run.
      strategy: tf.distribute.Strategy.
      method_leaf: module of `tfseg.methods`.
      domains: list of domains.Domain, the main one first.
    """

    def __init__(self, config, workdir, strategy, method_leaf, domains):
        self.config, self.workdir, self.strategy = config, workdir, strategy
        self.domains = domains
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
        self._predictors = {}
        for network in self.method.networks.values():
            # Not later: in `fit` they would become mirrored ones.
            self._predictor_of(network)

    def _place(self, network):
        """Place of one of the method's networks, and its domain."""
        networks = self.method.networks.values()
        (place,) = [i for i, other in enumerate(networks) if other is network]
        if self.method.SEVERAL_DOMAINS:
            return 0, self.domains[place]
        return place, self.domains[0]

    def _predictor_of(self, network):
        """A predictor whose network has the form of the given one."""
        place, domain = self._place(network)
        form = runs.network_section(self.config, place), domain.name
        if form not in self._predictors:
            self._predictors[form] = inference.Predictor(
                runs.build_network(self.config, domain.info.num_classes, place),
                window=self.config.evaluate.window,
                overlap=self.config.evaluate.overlap,
            )
        return self._predictors[form]

    def _build_method(self, leaf):
        options = dict(self.config.method)
        options.pop("name")
        builders = {
            domain.name: functools.partial(
                runs.build_network, self.config, domain.info.num_classes
            )
            for domain in self.domains
        }
        if not leaf.build.SEVERAL_DOMAINS:
            (builders,) = builders.values()
        method = leaf.build(builders, seed=self.config.seed, **options)
        method.compile(
            self._build_optimizer(method),
            jit_compile=self.config.runtime.xla,
        )
        method.optimizer.build(method.trained)
        return method

    def _build_optimizer(self, method):
        options = dict(self.config.optimizer)
        updates = method.updates_per_step
        rate = schedules.learning_rate(
            options.pop("schedule"),
            base_rate=options.pop("learning_rate"),
            total_steps=updates * self.config.train.steps,
            power=options.pop("power"),
            warmup_steps=updates * options.pop("warmup_steps"),
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
        part = order.Slice(
            worker=context.input_pipeline_id,
            num_workers=context.num_input_pipelines,
            replicas=context.num_replicas_in_sync
            // context.num_input_pipelines,
        )
        streams = {
            domain.name: domain.batches(
                self.method,
                start=self.start,
                part=part,
                folder=self.pseudo_labels,
            )
            for domain in self.domains
        }
        if not self.method.SEVERAL_DOMAINS:
            (streams,) = streams.values()
        return pipeline.together(streams)

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
                class_names=self.domains[0].info.class_names,
                ramps=self.method.ramps,
            )
        ]
        if all(domain.split.validation for domain in self.domains):
            callbacks.append(
                validation.Validation(
                    evaluate=self._evaluate,
                    draw=self._draw,
                    writer=writer,
                    store=self.store,
                    history=self.history,
                    every=train_config.evaluate_every,
                    total=train_config.steps,
                    class_names=self.domains[0].info.class_names,
                    score=self._score,
                    of_chief=self.agreement.of_chief,
                )
            )
        if self.chief:
            names = "+".join(domain.name for domain in self.domains)
            name = f"{names} {self.config.method.name}"
            callbacks.append(progress.Progress(train_config.steps, name))
        return callbacks

    def _images_per_step(self):
        train_config, images = self.config.train, 0
        if self.method.LABELED_VIEW:
            images += train_config.labeled_batch
        if self.method.UNLABELED_VIEW:
            images += train_config.unlabeled_batch
        return images * len(self.domains)

    def _writer(self):
        writer = reporting.Writer(self.workdir, self.start)
        if self.start == 0:
            text = self.config.to_json(indent=2)
            writer.text("train", 0, "config", f"```json\n{text}\n```")
        return writer

    def _evaluate(self, network):
        predictor = self._predictor_of(network)
        _, domain = self._place(network)
        moving_average.copy(network, predictor.network)
        return evaluate.evaluate(
            predictor,
            self._validation[domain.name],
            domain.info,
            absent=self.config.evaluate.absent,
        )

    # Made once: that traces the pipeline and reads the headers of the images.
    @functools.cached_property
    def _validation(self):
        """{name of a domain: batches of its validation images}."""
        return {
            domain.name: domain.validation_batches() for domain in self.domains
        }

    @functools.cached_property
    def _pictured(self):
        """Validation images to look at, one by one."""
        domain, count = self.domains[0], self.config.train.num_pictures
        return domain.validation_batches(domain.split.validation[:count])

    def _score(self, mious):
        """What the best checkpoint has most of.

        Args:
          mious: of all networks, that of the deployed one first.
        """
        if self.method.SEVERAL_DOMAINS:
            return statistics.mean(mious)
        return mious[0]

    def _draw(self):
        # Of the copy as it stands: only the chief draws, so it must not wait
        # for other workers to read a variable.
        if not self.config.train.num_pictures:
            return None
        predictor = self._predictor_of(self.method.deployed)
        return report.pictures(predictor, self._pictured, self.domains[0].info)

    def _explain(self):
        """Names the files behind a failure of the input pipeline.

        Raises:
          ValueError: with the broken files.
        """
        logging.info("looking for the file that could not be read ...")
        for domain in self.domains:
            check.raise_on(domain.training_pool().damaged())

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
