# SPDX-License-Identifier: Apache-2.0
"""Five steps of every optimizer against plain numpy, wherever it may run.

The loss is the mean over the replicas of `sum(kernel * x) + sum(bias * y)`,
whose gradients are the means of x and y, whatever the variables are.
"""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg import optimizers, schedules

STEPS, BASE = 5, 0.1
OPTIONS = {
    "sgd": {"momentum": 0.9, "nesterov": False},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "adam": {},
    "adamw": {"beta_2": 0.95},
}
DECAYS = [
    {"weight_decay": 0.0, "coupled_weight_decay": False},
    {"weight_decay": 0.3, "coupled_weight_decay": True},
    {"weight_decay": 0.3, "coupled_weight_decay": False},
]
# Of the learning rate of each variable.
MULTIPLIERS = {"kernel": 0.1, "scale": 1.0, "bias": 0.5}


def initial():
    return {
        "kernel": np.array([[1.0, -2.0], [0.5, 3.0]]),
        "scale": np.array([[1.5, 0.25], [-1.0, 2.0]]),
        "bias": np.array([1.0, -0.5]),
    }


def gradients():
    """Float64 [STEPS][name], bfloat16 and float16 values exactly."""
    random = np.random.default_rng(0)
    return [
        {
            name: random.integers(-8, 8, v.shape) / 4
            for name, v in initial().items()
        }
        for _ in range(STEPS)
    ]


def rate_at(step, schedule):
    return BASE * (1 - step / 10) ** 0.9 if schedule else BASE


def oracle(
    name, options, decay, *, schedule=False, decay_bias=False, epsilon=1e-7
):
    """Values after STEPS, by the textbook."""
    values = initial()
    first = {key: np.zeros_like(value) for key, value in values.items()}
    second = {key: np.zeros_like(value) for key, value in values.items()}
    for step, gradient in enumerate(gradients()):
        for key, value in values.items():
            rate = MULTIPLIERS[key] * rate_at(step, schedule)
            g = gradient[key]
            decays = value.ndim > 1 or decay_bias
            strength = decay["weight_decay"] if decays else 0
            if decay["coupled_weight_decay"]:
                g = g + strength * value
            else:
                value = value - rate * strength * value
            if name in ("sgd", "nesterov"):
                momentum = options["momentum"]
                first[key] = momentum * first[key] - rate * g
                move = first[key]
                if options["nesterov"]:
                    move = momentum * first[key] - rate * g
                values[key] = value + move
                continue
            b1, b2 = 0.9, options.get("beta_2", 0.999)
            first[key] = b1 * first[key] + (1 - b1) * g
            second[key] = b2 * second[key] + (1 - b2) * g**2
            count = step + 1
            rate = rate * np.sqrt(1 - b2**count) / (1 - b1**count)
            values[key] = value - rate * first[key] / (
                np.sqrt(second[key]) + epsilon
            )
    return values


class Terms(keras.layers.Layer):
    """Holds the variables, so that they follow the precision policy."""

    def build(self, shape):
        super().build(shape)
        for key, value in initial().items():
            setattr(
                self,
                key,
                self.add_weight(
                    key,
                    value.shape,
                    initializer=keras.initializers.Constant(value),
                ),
            )

    def call(self, gradient):
        terms = [
            tf.reduce_sum(getattr(self, key) * gradient[key])
            for key in initial()
        ]
        return tf.cast(tf.add_n(terms), tf.float32)


@contextlib.contextmanager
def precision(name):
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy("float32")


def strategy_of(replicas):
    if replicas == 0:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


class Run:
    """Variables and an optimizer under a strategy and a precision."""

    def __init__(self, name, decay, *, replicas=0, policy="float32", **options):
        self.strategy = strategy_of(replicas)
        rate = BASE
        if options.pop("schedule", False):
            rate = schedules.learning_rate(
                "poly", base_rate=BASE, total_steps=10
            )
        with self.strategy.scope(), precision(policy):
            self.layer = Terms()
            self.layer.build(None)
            self.optimizer = optimizers.build(
                "sgd" if name == "nesterov" else name,
                learning_rate=rate,
                **decay,
                **OPTIONS[name],
                **options,
            )
            for key, multiplier in MULTIPLIERS.items():
                if multiplier != 1:
                    self.optimizer.set_multipliers(
                        [getattr(self.layer, key)], multiplier
                    )
            self.inner = self.optimizer
            if policy == "mixed_float16":
                self.optimizer = keras.mixed_precision.LossScaleOptimizer(
                    self.optimizer, dynamic=True, initial_scale=1024
                )
            self.optimizer.build(self.layer.trainable_variables)

    def _replica_step(self, gradient):
        replicas = self.strategy.num_replicas_in_sync
        context = tf.distribute.get_replica_context()
        # Unequal parts with the right mean: 1/2 and 3/2 of it for two.
        part = tf.cast(context.replica_id_in_sync_group, tf.float32)
        share = 1.0 if replicas == 1 else 0.5 + part
        with tf.GradientTape() as tape:
            loss = self.layer(gradient) * share / replicas
        self.optimizer.minimize(loss, self.layer.trainable_variables, tape=tape)

    def _step(self, gradient):
        self.strategy.run(self._replica_step, args=(gradient,))

    @functools.cached_property
    def _traced(self):
        return tf.function(self._step)

    def train(self, function=True, steps=slice(None)):
        step = self._traced if function else self._step
        for gradient in gradients()[steps]:
            step({k: tf.constant(v, tf.float32) for k, v in gradient.items()})
        return self

    def values(self):
        return {key: getattr(self.layer, key).numpy() for key in initial()}


def check(run, expected, rtol=2e-5):
    for key, value in run.values().items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(
            value, expected[key], rtol=rtol, atol=1e-6, err_msg=key
        )
    for key in initial():
        copies = run.strategy.experimental_local_results(
            getattr(run.layer, key)
        )
        for copy in copies[1:]:
            np.testing.assert_array_equal(copies[0], copy)


def cases():
    for name in OPTIONS:
        for decay in DECAYS:
            if not (name == "adamw" and decay["coupled_weight_decay"]):
                yield name, decay


@pytest.mark.parametrize("function", [False, True])
@pytest.mark.parametrize("name,decay", cases())
def test_agrees_with_numpy(name, decay, function):
    run = Run(name, decay).train(function)
    check(run, oracle(name, OPTIONS[name], decay))


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("decay", DECAYS[1:])
@pytest.mark.parametrize(
    "replicas,policy",
    [
        (1, "float32"),
        (2, "float32"),
        (0, "mixed_float16"),
        (2, "mixed_float16"),
        (0, "mixed_bfloat16"),
        (2, "mixed_bfloat16"),
    ],
)
def test_agrees_with_numpy_everywhere(name, decay, replicas, policy):
    run = Run(name, decay, replicas=replicas, policy=policy, schedule=True)
    run.train()
    expected = oracle(name, OPTIONS[name], decay, schedule=True)
    # Half precision touches only the gradients, which it holds exactly.
    check(run, expected)
    assert run.optimizer.iterations.numpy() == STEPS
    # That of the last step, without any multiplier.
    np.testing.assert_allclose(
        run.optimizer.learning_rate.numpy(), rate_at(STEPS - 1, True), rtol=1e-6
    )


# Not with two replicas: TensorFlow does not order eager all-reduces.
@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_agrees_with_numpy_eagerly(replicas, policy):
    run = Run("adam", DECAYS[2], replicas=replicas, policy=policy)
    check(run.train(function=False), oracle("adam", {}, DECAYS[2]))


@pytest.mark.parametrize(
    "name,decay", [("sgd", DECAYS[1]), ("adam", DECAYS[2])]
)
def test_decays_vectors_only_when_asked(name, decay):
    run = Run(name, decay, decay_norm_and_bias=True).train()
    expected = oracle(name, OPTIONS[name], decay, decay_bias=True)
    check(run, expected)
    without = oracle(name, OPTIONS[name], decay)
    assert np.abs(expected["bias"] - without["bias"]).max() > 0.01


def test_weight_decay_by_hand():
    """One SGD step at rate 0.1, gradient 2, weight 10, decay 0.5."""
    for coupled, expected in (
        # 10 - 0.1 * (2 + 0.5 * 10) = 9.3
        (True, 9.3),
        # 10 - 0.1 * 0.5 * 10 - 0.1 * 2 = 9.3; alike without momentum
        (False, 9.3),
    ):
        kernel, bias = tf.Variable([[10.0]]), tf.Variable([10.0])
        optimizer = optimizers.build(
            "sgd",
            learning_rate=0.1,
            weight_decay=0.5,
            coupled_weight_decay=coupled,
        )
        optimizer.apply_gradients(
            [(tf.constant([[2.0]]), kernel), (tf.constant([2.0]), bias)]
        )
        np.testing.assert_allclose(kernel, [[expected]], rtol=1e-6)
        np.testing.assert_allclose(bias, [9.8], rtol=1e-6)


def test_multiplier_zero_freezes_and_the_last_one_counts():
    variable = tf.Variable([[10.0]])
    optimizer = optimizers.build(
        "adam", learning_rate=0.1, weight_decay=0.5, coupled_weight_decay=False
    )
    optimizer.set_multipliers([variable], 3.0)
    optimizer.set_multipliers([variable], 0.0)
    optimizer.apply_gradients([(tf.constant([[2.0]]), variable)])
    np.testing.assert_array_equal(variable, [[10.0]])


def test_learning_rate_can_be_read_and_set():
    optimizer = optimizers.build(
        "sgd", learning_rate=0.1, coupled_weight_decay=True
    )
    np.testing.assert_allclose(optimizer.learning_rate, 0.1)
    optimizer.learning_rate = 0.2
    np.testing.assert_allclose(optimizer.learning_rate, 0.2)


def test_a_float16_overflow_skips_the_whole_update():
    run = Run("adam", DECAYS[2], policy="mixed_float16")
    before = run.values()
    with tf.GradientTape() as tape:
        big = {key: np.full_like(value, 6e4) for key, value in before.items()}
        loss = run.layer({k: tf.constant(v) for k, v in big.items()})
    run.optimizer.minimize(loss, run.layer.trainable_variables, tape=tape)
    for key, value in run.values().items():
        np.testing.assert_array_equal(value, before[key])
    assert int(run.optimizer.iterations) == 1


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("replicas", [0, 2])
def test_a_restored_run_goes_on_alike(tmp_path, name, replicas, policy):
    options = {"replicas": replicas, "policy": policy, "schedule": True}
    whole = Run(name, DECAYS[1], **options).train(steps=slice(3))
    path = tf.train.Checkpoint(
        layer=whole.layer, optimizer=whole.optimizer
    ).save(str(tmp_path / "checkpoint"))
    whole.train(steps=slice(3, None))
    rest = Run(name, DECAYS[1], **options)
    tf.train.Checkpoint(layer=rest.layer, optimizer=rest.optimizer).restore(
        path
    ).assert_consumed()
    rest.train(steps=slice(3, None))
    assert rest.optimizer.iterations.numpy() == STEPS
    for key, value in whole.values().items():
        np.testing.assert_array_equal(rest.values()[key], value)
    slots = {v.name: v.numpy() for v in whole.inner.variables}
    for variable in rest.inner.variables:
        np.testing.assert_array_equal(variable, slots[variable.name])


def test_compiled_by_keras():
    """Inside `fit`, where Keras itself wraps for float16."""
    with precision("mixed_float16"):
        model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
        model.build((None, 1))
        kernel = model.trainable_variables[0]
        kernel.assign([[1.0]])
        optimizer = optimizers.build(
            "sgd", learning_rate=0.5, coupled_weight_decay=True, momentum=0.0
        )
        optimizer.set_multipliers([kernel], 0.25)
        model.compile(optimizer, loss=lambda y, z: tf.cast(z, tf.float32))
        model.fit(np.ones([4, 1]), np.ones([4, 1]), batch_size=4, verbose=0)
    # 1 - 0.5 * 0.25 * 1
    np.testing.assert_allclose(kernel, [[0.875]], rtol=1e-6)


def test_bad_arguments_are_refused():
    options = {"learning_rate": 0.1, "coupled_weight_decay": True}
    with pytest.raises(ValueError, match="sgd, adam, adamw.*'rmsprop'"):
        optimizers.build("rmsprop", **options)
    with pytest.raises(ValueError, match="`coupled_weight_decay`"):
        optimizers.build("adamw", weight_decay=0.1, **options)
    with pytest.raises(ValueError, match="`pretrained_multiplier`.*-1"):
        optimizers.build("sgd", **options).set_multipliers([], -1)
