# SPDX-License-Identifier: Apache-2.0
"""What every method shares: the step, the loss over replicas, the report."""

import tensorflow as tf
from tensorflow import keras

from tfseg.ops import masks


class Method(keras.Model):
    """A training algorithm that owns its networks.

    A subclass writes `train_step` in full, from a batch to
    `return self.report(...)`, and sets:

      LABELED_VIEW, UNLABELED_VIEW: names in `tfseg.data.views`; None = the
        method takes no such images.
      UNLABELED_GROUP: a replica's unlabeled images come in groups of so many.
      PSEUDO_LABELED: unlabeled images come with the labels of a teacher, a run
        of the method in the option `teacher`, which is trained before.
      IMAGE_LABELED: unlabeled images come with `classes`, float32 [B, C] in
        {0, 1}: those that the data set knows each to show. The background is
        one of them.
      SEVERAL_DOMAINS: learns from several data sets. Instead of a factory of
        networks it gets a dict, name of the domain -> factory; a batch is a
        dict of those of the domains; `networks` has one for each.
      SCALARS: names of the scalars of every step, in order.
      CLASS_SHARES: names of the [num_classes] vectors of every step.
      NETWORKS: names of the attributes that are networks; the first one is
        deployed, which means evaluated first and exported.

    Variables that a method needs besides (ramps, counters) are attributes as
    well, so that one checkpoint of the method holds everything.
    """

    LABELED_VIEW = "plain"
    UNLABELED_VIEW = None
    UNLABELED_GROUP = 1
    PSEUDO_LABELED = False
    IMAGE_LABELED = False
    SEVERAL_DOMAINS = False
    SCALARS = ("loss",)
    CLASS_SHARES = ()
    NETWORKS = ("student",)
    # An option of those that call `predict_both`.
    joint_pass = False
    # Of the optimizer, whose learning rate follows them.
    updates_per_step = 1

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        # Steps are written without Python branches on tensors. To let AutoGraph
        # look for them in all that a step calls takes longer than to trace it.
        if "train_step" in vars(cls):
            cls.train_step = tf.autograph.experimental.do_not_convert(
                cls.train_step
            )

    def __init__(self, *, seed):
        super().__init__()
        self.seed = seed
        # Counts steps, also those whose float16 update was skipped.
        self.step = self.add_state("step", 0, tf.int64)
        self._trackers = {
            name: keras.metrics.Mean(name) for name in self.SCALARS
        }
        # Every replica notes its own; read with `first_nonfinite`.
        self._nonfinite_steps = tf.Variable(
            tf.fill([len(self.SCALARS)], tf.int64.max),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="nonfinite_steps",
        )

    def add_state(self, name, value, dtype):
        """A variable that all replicas hold alike and do not train."""
        return tf.Variable(
            value,
            trainable=False,
            dtype=dtype,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name=name,
        )

    def compile(self, optimizer, **options):
        if options.get("steps_per_execution", 1) != 1:
            raise ValueError(
                "`steps_per_execution` must be 1: teacher and ramps are "
                "callbacks of every step. Received: "
                f"{options['steps_per_execution']}."
            )
        # A vector needs its length before the first step is traced.
        for name in self.CLASS_SHARES:
            self._trackers[name] = keras.metrics.MeanTensor(
                name, shape=[self.deployed.num_classes]
            )
        super().compile(optimizer, **options)

    @property
    def networks(self):
        """{name: network}, the deployed one first."""
        return {name: getattr(self, name) for name in self.NETWORKS}

    @property
    def deployed(self):
        """The network to evaluate and export."""
        return getattr(self, self.NETWORKS[0])

    @property
    def trained(self):
        """Variables that the optimizer updates."""
        return self.student.trainable_variables

    def step_callbacks(self):
        """Keras callbacks that belong to the algorithm, in their order."""
        return []

    def passes(self, labeled, unlabeled):
        """The least that a step must compute, for `launch.benchmark`.

        Args:
          labeled: labeled images of a step on one replica.
          unlabeled: unlabeled ones.

        Returns:
          List of (kind, number of images). Kinds: "train" (forward, backward
          and update of one network), "forward", "input" (forward, and
          backward to the image); "decoder" and "decoder_input" are "train"
          and "input" of a decoder alone, from the features.
        """
        raise NotImplementedError

    @property
    def ramps(self):
        """{name: scalar variable} that a callback ramps, to be logged."""
        return {}

    def call(self, image, training=False):
        return self.deployed(image, training=training)

    def minimize(self, loss, tape, variables):
        """One optimizer step on the mean of `loss` over the replicas.

        The only place that divides by the number of replicas. Gradients are
        summed over replicas, and `optimizer.minimize` scales the loss for
        float16, which a bare `tape.gradient` would not.
        """
        with tape:
            loss = loss / tf.cast(
                self._context().num_replicas_in_sync, loss.dtype
            )
        self.optimizer.minimize(loss, variables, tape=tape)

    def mean_over_replicas(self, value):
        """The mean of a float32 tensor over all replicas, without gradient."""
        value = tf.stop_gradient(value)
        if self._context().num_replicas_in_sync == 1:
            return value
        return self._context().all_reduce(tf.distribute.ReduceOp.MEAN, value)

    def step_seed(self):
        """int32 [2], another one every step, the same on all replicas."""
        return tf.stack([tf.cast(self.step, tf.int32), self.seed])

    def my_part(self, values):
        """This replica's rows of a tensor that stands for the global batch.

        Random numbers are drawn for the global batch and cut, so that one and
        two replicas draw the same.
        """
        context = self._context()
        rows = tf.shape(values)[0] // context.num_replicas_in_sync
        start = context.replica_id_in_sync_group * rows
        return values[start : start + rows]

    def global_rows(self, values):
        """int32: rows of the global batch of which `values` is a part."""
        return tf.shape(values)[0] * self._context().num_replicas_in_sync

    def all_rows(self, values):
        """The rows of the global batch of which `values` is a part.

        Args:
          values: [B, ...], alike in shape on all replicas; no gradient.
        """
        values = tf.stop_gradient(values)
        if self._context().num_replicas_in_sync == 1:
            return values
        return self._context().all_gather(values, axis=0)

    def predict_both(self, network, labeled, unlabeled, training=True):
        """A network's logits of labeled and of unlabeled images.

        In one pass if `joint_pass`: BatchNorm then normalizes both by the
        statistics of both together, and its moving statistics take one step
        instead of two. Without BatchNorm the two ways agree.

        Args:
          network: [N, H, W, 3] -> [N, H, W, C].
          labeled: float32 [L, H, W, 3].
          unlabeled: float32 [U, H, W, 3].
          training: mode of the network.

        Returns:
          float32 [L, H, W, C] and [U, H, W, C].
        """
        if not self.joint_pass:
            return [
                network(labeled, training=training),
                network(unlabeled, training=training),
            ]
        both = network(tf.concat([labeled, unlabeled], 0), training=training)
        return tf.split(both, [tf.shape(labeled)[0], tf.shape(unlabeled)[0]])

    def box_masks(self, image, boxes):
        """This replica's part of the masks that the step draws.

        Args:
          image: [B, H, W, ...], one mask for each.
          boxes: options of `ops.masks.random_box_masks`.

        Returns:
          float32 [B, H, W, 1] in {0, 1}.
        """
        return self.my_part(
            masks.random_box_masks(
                self.global_rows(image),
                self.step_seed(),
                size=image.shape[1:3],
                **boxes,
            )
        )

    def report(self, **values):
        """Ends a step: notes values and counts.

        Args:
          **values: float32 scalars named in SCALARS, and [num_classes]
            vectors named in CLASS_SHARES.

        Returns:
          dict of the means since the last `reset_metrics`.
        """
        scalars = tf.stack([values[name] for name in self.SCALARS])
        bad = tf.where(tf.math.is_finite(scalars), tf.int64.max, self.step)
        self._nonfinite_steps.assign(tf.minimum(self._nonfinite_steps, bad))
        for name, tracker in self._trackers.items():
            tracker.update_state(values[name])
        self.step.assign_add(1)
        return {name: t.result() for name, t in self._trackers.items()}

    @property
    def metrics(self):
        return list(self._trackers.values())

    def synchronize_statistics(self):
        """Gives all replicas the mean of their BatchNorm statistics.

        A checkpoint holds the mean; a run that goes on after a save must go
        on from what a resumed one would restore.
        """
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return
        for variable in _float_variables(self):
            if variable.synchronization == tf.VariableSynchronization.ON_READ:
                variable.assign(variable.read_value())

    def raise_if_not_finite(self):
        """Host check of all scalars so far and of the variables as they are.

        Waits for the step, so it belongs before a report or a save. All
        workers must call it together.

        Raises:
          FloatingPointError: names the scalar or variable and the step.
        """
        steps = self._first_nonfinite_steps().numpy()
        if steps.min() < tf.int64.max:
            # A sum is not finite because of a part: name the part.
            bad = [i for i, step in enumerate(steps) if step == steps.min()]
            _raise_not_finite(self.SCALARS[bad[-1]], steps.min())
        variables = _float_variables(self)
        finite = self._finite(variables).numpy()
        for variable, is_finite in zip(variables, finite):
            if not is_finite:
                _raise_not_finite(variable.name, self.step.numpy() - 1)

    @tf.function(autograph=False)
    def _first_nonfinite_steps(self):
        """int64 [scalars], the least over all replicas."""

        def in_replica():
            # int64 has no maximum across replicas; a gather of a few does.
            return tf.distribute.get_replica_context().all_gather(
                self._nonfinite_steps.read_value()[None], axis=0
            )

        gathered = self.distribute_strategy.run(in_replica)
        local = self.distribute_strategy.experimental_local_results(gathered)
        return tf.reduce_min(local[0], 0)

    @tf.function(autograph=False)
    def _finite(self, variables):
        """bool [variables]."""
        return tf.stack(
            [tf.reduce_all(tf.math.is_finite(v)) for v in variables]
        )

    def _context(self):
        return tf.distribute.get_replica_context()


def _float_variables(method):
    """All variables of all parts, BatchNorm statistics too; no metrics."""
    metrics = {v.ref() for metric in method.metrics for v in metric.variables}
    return [
        variable
        for variable in method.variables
        if variable.dtype.is_floating and variable.ref() not in metrics
    ]


def _raise_not_finite(name, step):
    raise FloatingPointError(
        f"`{name}` is not finite at step {step}. The last good checkpoint "
        "stays. Lower `config.optimizer.learning_rate`, or use float32."
    )
