# SPDX-License-Identifier: Apache-2.0
import collections

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg.networks.layers import dilated

ALL = dilated.Steps(True, True, True)
NONE = dilated.Steps(False, False, False)
OWN = ("native", "taps")


def random(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape)


def pair(implementation, filters=4, size=3, dtype="float64", **options):
    """Keras' layer and this one."""
    options = dict(
        filters=filters,
        kernel_size=size,
        padding=options.pop("padding", "same"),
        dtype=dtype,
        bias_initializer="normal",
        **options,
    )
    return (
        keras.layers.Conv2D(**options),
        dilated.Conv2D(implementation=implementation, **options),
    )


def step(layer, x, upstream=None):
    """The result and the gradients for input, kernel and bias."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        weights = tf.cast(
            random(*y.shape) if upstream is None else upstream, y.dtype
        )
        loss = tf.reduce_sum(y * weights)
    return [y, *tape.gradient(loss, [x, *layer.trainable_variables])]


def assert_equal_steps(layers, x, **tolerance):
    expected, found = layers
    expected(x), found(x)
    found.set_weights(expected.get_weights())
    for a, b in zip(step(expected, x), step(found, x)):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(b, a, **tolerance)


@pytest.fixture(params=["narrow", "wide"])
def form(request, monkeypatch):
    """Both ways of the taps, whatever the number of filters."""
    limit = {"narrow": 1000, "wide": 0}[request.param]
    monkeypatch.setattr(dilated, "NARROW_FILTERS", limit)


@pytest.mark.parametrize("rate", [1, 2, 3, 6, 12, 18, 24])
def test_result_and_gradients_are_the_native_ones(rate, form):
    for shape in [(2, 16, 16, 3), (1, 7, 12, 5), (2, 13, 4, 2), (1, 1, 1, 3)]:
        x = tf.constant(random(*shape))
        expected, found = layers = pair("taps", dilation_rate=rate)
        assert_equal_steps(layers, x, atol=1e-12)
        native = tf.nn.conv2d(x, found.kernel, 1, "SAME", dilations=rate)
        np.testing.assert_allclose(found(x), native + found.bias, atol=1e-12)
    x = tf.constant(random(2, 2 * rate + 3, 2 * rate + 1, 3))
    layers = pair("taps", dilation_rate=rate, padding="valid", use_bias=False)
    assert_equal_steps(layers, x, atol=1e-12)


@pytest.mark.parametrize(
    "size, rate",
    [(1, 2), (5, 2), (5, 7), ((3, 1), 4), ((1, 5), (2, 3)), ((5, 3), (1, 6))],
)
def test_any_odd_kernel(size, rate, form):
    x = tf.constant(random(2, 11, 9, 3))
    layers = pair("taps", 6, size, dilation_rate=rate, activation="tanh")
    assert_equal_steps(layers, x, atol=1e-12)


@pytest.mark.parametrize(
    "steps", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
)
def test_any_mixture_of_operation_and_taps(steps, monkeypatch):
    if not dilated.has_gradient("float32"):
        pytest.skip("this TensorFlow has no oneDNN")
    monkeypatch.setattr(
        dilated.Conv2D, "steps_by_taps", lambda *_: dilated.Steps(*steps)
    )
    for padding in ("same", "valid"):
        x = tf.constant(random(2, 11, 10, 3), tf.float32)
        layers = pair("auto", dtype="float32", dilation_rate=3, padding=padding)
        assert_equal_steps(layers, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", dilated.IMPLEMENTATIONS)
def test_one_trace_for_all_sizes(implementation, form):
    expected, found = pair(implementation, dtype="float32", dilation_rate=6)
    signature = [tf.TensorSpec([None, None, None, 3])] * 2
    traces = []

    @tf.function(input_signature=signature)
    def run(x, upstream):
        traces.append(x)
        return step(found, x, upstream[..., :1])

    for shape in [(1, 20, 9), (2, 1, 1), (1, 3, 14), (3, 6, 6)]:
        x = tf.constant(random(*shape, 3), tf.float32)
        expected(x), found(x)
        found.set_weights(expected.get_weights())
        for a, b in zip(step(expected, x, x[..., :1]), run(x, x)):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)
    assert len(traces) == 1


@pytest.mark.parametrize("implementation", dilated.IMPLEMENTATIONS)
def test_xla(implementation, form):
    _, layer = pair(implementation, dtype="float32", dilation_rate=4)
    x = tf.constant(random(2, 9, 6, 3), tf.float32)
    layer(x)
    compiled = tf.function(lambda x: step(layer, x), jit_compile=True)
    for a, b in zip(step(layer, x), compiled(x)):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)
    signature = [tf.TensorSpec([None, None, None, 3])] * 2
    compiled = tf.function(
        lambda x, upstream: step(layer, x, upstream[..., :1]),
        input_signature=signature,
        jit_compile=True,
    )
    for a, b in zip(step(layer, x, x[..., :1]), compiled(x, x)):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", dilated.IMPLEMENTATIONS)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(policy, implementation, form):
    """As exact as rounding each share of a tap once allows.

    In float16, Eigen also rounds within the products, of 288 terms here.
    """
    dtype = tf.as_dtype(policy[len("mixed_") :])
    tolerance = {tf.bfloat16: 2 * 2.0**-8, tf.float16: 8 * 2.0**-11}[dtype]
    exact, half = (
        pair(implementation, 8, dtype=name, dilation_rate=3, use_bias=False)[1]
        for name in ("float64", policy)
    )
    x = tf.cast(random(2, 12, 12, 16), dtype)
    half(x), exact(x)
    # Values that half precision holds, so that only the sums differ.
    kernel = tf.cast(tf.cast(half.kernel, dtype), tf.float32)
    half.set_weights([kernel]), exact.set_weights([kernel])
    for call in (step, tf.function(step)):
        found = call(half, x)
        assert [v.dtype for v in found] == [dtype, dtype, tf.float32]
        upstream = tf.cast(random(*found[0].shape), dtype)
        expected = step(
            exact, tf.cast(x, tf.float64), tf.cast(upstream, tf.float64)
        )
        for a, b in zip(expected, found):
            error = np.abs(a - tf.cast(b, tf.float64))
            assert error.max() < tolerance * np.abs(a).max()


def operations(layer, x):
    """How often each kind of operation is in the graph of a step."""

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x))
        return tape.gradient(loss, [x, *layer.trainable_variables])

    layer(x)
    graph = tf.function(run).get_concrete_function(x).graph
    return collections.Counter(op.type for op in graph.get_operations())


def test_taps_outside_cost_nothing():
    x = tf.ones([1, 16, 16, 2])
    for rate, count in ((18, 1), (15, 9)):
        _, layer = pair("taps", 70, dtype="float32", dilation_rate=rate)
        assert operations(layer, x)["MatMul"] == 3 * count
    _, _, gradient, _ = step(layer, x)
    _, layer = pair("taps", dtype="float32", dilation_rate=(18, 2))
    _, _, gradient, _ = step(layer, x)
    assert (gradient[1].numpy() != 0).all()
    assert not gradient.numpy()[[0, 2]].any()
