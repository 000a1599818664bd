# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg.networks import fcn
from tfseg.ops import streaming

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])


def normal(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


@CALLS
def test_attached_gradients_are_those(wrap):
    variable = tf.Variable(2.0)
    vector = tf.constant([1.0, 2.0])

    @wrap
    def run():
        with tf.GradientTape() as tape:
            tape.watch(vector)
            value = streaming.attach(
                variable * 5.0,
                [variable, vector, vector],
                [tf.constant(7.0), tf.constant([1.0, -1.0]), None],
            )
            result = tf.square(value)
        return result, tape.gradient(result, [variable, vector])

    result, (of_variable, of_vector) = run()
    assert result == 100
    # Upstream 2 * 10; the value's own slope, 5, does not count.
    assert of_variable == 140
    np.testing.assert_array_equal(of_vector, [20, -20])


def test_attached_gradient_is_scaled_before_it_is_half():
    half = tf.constant(1.0, tf.float16)
    with tf.GradientTape() as tape:
        tape.watch(half)
        value = 2.0**20 * streaming.attach(0.0, [half], [tf.constant(1e-9)])
    gradient = tape.gradient(value, half)
    assert gradient.dtype == tf.float16
    np.testing.assert_allclose(gradient, 2.0**20 * 1e-9, rtol=1e-3)


def test_nothing_to_attach():
    assert streaming.attach(tf.constant(3.0), [tf.constant(1.0)], [None]) == 3
    with pytest.raises(ValueError, match="`gradients`.*1 for 0"):
        streaming.attach(0.0, [], [tf.constant(1.0)])
    with pytest.raises(ValueError, match="`branches`"):
        streaming.mean([], tf.constant(1.0))


@functools.lru_cache(maxsize=None)
def build(policy):
    """The encoder's features of two images, and two decoders."""
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(policy)
    try:
        network = fcn.build(num_classes=3, width=4)
        others = [network.decoder, network.new_decoder()]
        image = np.random.RandomState(0).uniform(0, 255, (2, 24, 32, 3))
        return network.encoder(image.astype(np.float32)), others
    finally:
        keras.mixed_precision.set_global_policy("float32")


def losses_and_gradients(wrap, features, decoders, stream, factor=1.0):
    """Decoders that each see other features; the last two share weights."""
    target = tf.nn.softmax(normal(2, 24, 32, 3, seed=1))
    decoders = [*decoders, decoders[-1]]

    def branch(place, decoder):
        def predict(features):
            top = features["stride8"]
            mask = normal(*top.shape, seed=10 + place) > 0
            top *= tf.cast(mask, top.dtype)
            return decoder({**features, "stride8": top}, training=True)

        return predict, decoder.trainable_variables

    branches = [branch(*pair) for pair in enumerate(decoders)]

    def loss(logits):
        return tf.reduce_mean(tf.square(tf.nn.softmax(logits) - target))

    names = [name for name in features if name != "image_size"]
    variables = [d.trainable_variables for d in decoders[:-1]]

    @wrap
    def run(features):
        maps = [features[name] for name in names]
        with tf.GradientTape() as tape:
            tape.watch(maps)
            if stream:
                value = streaming.mean(
                    [(*branch, loss) for branch in branches], features
                )
            else:
                values = [loss(predict(features)) for predict, _ in branches]
                value = tf.add_n(values) / len(values)
            scaled = factor * value
        return value, tape.gradient(scaled, [maps, variables])

    return run(features)


def assert_close(found, expected, tolerance):
    found, expected = tf.nest.flatten(found), tf.nest.flatten(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        a, b = tf.cast(a, tf.float32), tf.cast(b, tf.float32)
        scale = np.abs(b).max()
        assert scale > 0
        np.testing.assert_allclose(a, b, atol=tolerance * scale)


@CALLS
def test_agrees_with_all_branches_at_once(wrap):
    features, decoders = build("float32")
    results, statistics = [], []
    for stream in (True, False):
        for decoder in decoders:
            for variable in decoder.non_trainable_variables:
                variable.assign(tf.ones_like(variable))
        results.append(losses_and_gradients(wrap, features, decoders, stream))
        of_all = [d.non_trainable_variables for d in decoders]
        statistics.append([v.numpy() for v in tf.nest.flatten(of_all)])
    assert_close(*results, 1e-5)
    # BatchNorm has seen each branch once.
    for a, b in zip(*statistics):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert np.any(a != 1)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(policy):
    _, expected = losses_and_gradients(
        tf.function, *build("float32"), False, factor=1.0
    )
    factor = 2.0**12
    features, decoders = build(policy)
    _, found = losses_and_gradients(
        tf.function, features, decoders, True, factor=factor
    )
    assert found[0][0].dtype == features["stride8"].dtype != tf.float32
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
        a = np.ravel(tf.cast(a, tf.float32)) / factor
        b = np.ravel(b)
        cosine = a @ b / np.sqrt((a @ a) * (b @ b))
        assert cosine > 0.95
        assert 0.8 < np.sqrt((a @ a) / (b @ b)) < 1.25


def test_float16_gradients_do_not_vanish():
    # Of 2^20 pixels each one's share is below the range of float16.
    z = tf.constant(normal(1, 256, 256, 2), tf.float16)
    kernel = tf.Variable(normal(2, 3))

    def predict(z):
        return z @ tf.cast(kernel, tf.float16)

    def loss(logits):
        return 1e-4 * tf.reduce_mean(tf.square(logits))

    with tf.GradientTape() as tape:
        value = streaming.mean([(predict, [kernel], loss)], z)
    found = tape.gradient(value, kernel)
    z = tf.cast(z, tf.float32)
    with tf.GradientTape() as tape:
        value = loss(z @ kernel)
    expected = tape.gradient(value, kernel)
    assert_close(found, expected, 1e-2)


def test_a_branch_waits_for_the_one_before():
    order = []

    def note(what, x):
        def call(x):
            order.append(what)
            return x

        # Stateless: only data and control dependencies order it.
        result = tf.numpy_function(call, [x], tf.float32, stateful=False)
        return tf.ensure_shape(result, x.shape)

    def branch(name):
        @tf.custom_gradient
        def predict(x):
            return note(f"{name} forward", x), lambda upstream: note(
                f"{name} backward", upstream
            )

        return predict, []

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            branches = [branch(name) for name in "abc"]
            value = streaming.mean(
                [(*branch, tf.nn.l2_loss) for branch in branches], x
            )
        return value, tape.gradient(value, x)

    value, gradient = run(tf.ones([4]))
    assert value == 2
    np.testing.assert_allclose(gradient, np.ones(4), rtol=1e-6)
    expected = [f"{n} {way}" for n in "abc" for way in ("forward", "backward")]
    assert order == expected


@CALLS
def test_what_losses_report_is_averaged_and_changes_nothing(wrap):
    x = tf.constant([[1.0, -2.0]])
    weights = [tf.Variable([[1.0, 0.5]]), tf.Variable([[2.0, 0.25]])]

    def predict(place, features):
        return features * weights[place]

    def branch(place, loss):
        return functools.partial(predict, place), [weights[place]], loss

    def loss(logits):
        return tf.reduce_sum(tf.square(logits))

    def with_report(logits):
        return loss(logits), tf.stack([tf.reduce_sum(logits), 7.0])

    @wrap
    def run(of_logits):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            result = streaming.mean(
                [branch(place, of_logits) for place in range(2)], x
            )
            value, *report = result if of_logits is with_report else [result]
            noted = tf.reduce_sum(report[0]) if report else value
        found = [value, tape.gradient(value, [x, weights])]
        return found, report, tape.gradient(noted, x)

    (plain, _, _), (found, report, of_report) = run(loss), run(with_report)
    for a, b in zip(tf.nest.flatten(plain), tf.nest.flatten(found)):
        np.testing.assert_array_equal(a, b)
    # Logits (1, -1) and (2, -0.5).
    np.testing.assert_allclose(report[0], [0.75, 7.0])
    assert of_report is None
