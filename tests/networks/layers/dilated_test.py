# SPDX-License-Identifier: Apache-2.0
import collections

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg.networks.layers import convolution, dilated

ALL = dilated.Steps(True, True, True)
NONE = dilated.Steps(False, False, False)
BY_TAPS_OR_NOT = [
    dilated.Steps(a, b, c)
    for a in (False, True)
    for b in (False, True)
    for c in (False, True)
]


@pytest.fixture(params=["narrow", "wide"])
def form(request, monkeypatch):
    """Both forms of the taps, whatever the number of filters."""
    limit = {"narrow": 1000, "wide": 0}[request.param]
    monkeypatch.setattr(dilated, "NARROW_FILTERS", limit)


def random(*shape, dtype=tf.float64):
    values = np.random.RandomState(sum(shape)).randn(*shape)
    return tf.cast(values, dtype)


def layer(implementation, *, size=3, dtype="float64", **options):
    """The layer, or Keras' own if `implementation` is None."""
    options = {
        "filters": 4,
        "kernel_size": size,
        "padding": "same",
        "dtype": dtype,
        "bias_initializer": "normal",
        **options,
    }
    if implementation is None:
        return keras.layers.Conv2D(**options)
    return dilated.Conv2D(implementation=implementation, **options)


def step(layer, x, upstream):
    """The result and the gradients for the input and the variables."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * tf.cast(upstream, y.dtype))
    return [y, *tape.gradient(loss, [x, *layer.trainable_variables])]


def assert_equal_steps(expected, found, x, **tolerance):
    """Of two layers, after the second took the weights of the first."""
    upstream = random(*expected(x).shape)
    found(x)
    found.set_weights(expected.get_weights())
    steps = [step(layer, x, upstream) for layer in (expected, found)]
    for a, b in zip(*steps):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(b, a, **tolerance)


@pytest.mark.parametrize("rate", [1, 2, 3, 6, 12, 18, 24])
def test_taps_give_the_native_result_and_gradients(rate, form):
    options = dict(dilation_rate=rate)
    for shape in [(2, 16, 16, 3), (1, 7, 12, 5), (2, 13, 4, 2), (1, 1, 1, 3)]:
        x = random(*shape)
        found = layer("taps", **options)
        assert_equal_steps(layer(None, **options), found, x, atol=1e-12)
        native = tf.nn.conv2d(x, found.kernel, 1, "SAME", dilations=rate)
        np.testing.assert_allclose(found(x), native + found.bias, atol=1e-12)
    options.update(padding="valid", use_bias=False)
    x = random(2, 2 * rate + 3, 2 * rate + 1, 3)
    layers = layer(None, **options), layer("taps", **options)
    assert_equal_steps(*layers, x, atol=1e-12)


@pytest.mark.parametrize(
    "size, rate",
    [(1, 2), (5, 2), (5, 7), ((3, 1), 4), ((1, 5), (2, 3)), ((5, 3), (1, 6))],
)
def test_any_odd_kernel(size, rate, form):
    options = dict(size=size, dilation_rate=rate, activation="tanh")
    layers = layer(None, **options), layer("taps", **options)
    assert_equal_steps(*layers, random(2, 11, 9, 3), atol=1e-12)


@pytest.mark.parametrize("steps", BY_TAPS_OR_NOT)
def test_any_mixture_of_operation_and_taps(steps, monkeypatch):
    if not dilated.has_gradient("float32"):
        pytest.skip("TensorFlow without oneDNN has no gradient to mix in")
    monkeypatch.setattr(dilated.Conv2D, "steps_by_taps", lambda *_: steps)
    for padding in ("same", "valid"):
        options = dict(dtype="float32", dilation_rate=3, padding=padding)
        layers = layer(None, **options), layer("auto", **options)
        x = random(2, 11, 10, 3, dtype=tf.float32)
        assert_equal_steps(*layers, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", dilated.IMPLEMENTATIONS)
def test_dtype_without_gradient_of_the_operation(implementation, monkeypatch):
    # As on a CPU without oneDNN, where the operation's gradient fails.
    monkeypatch.setattr(dilated, "has_gradient", lambda dtype: False)
    options = dict(dilation_rate=2)
    layers = layer(None, **options), layer(implementation, **options)
    assert_equal_steps(*layers, random(2, 7, 6, 3), atol=1e-12)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("implementation", dilated.IMPLEMENTATIONS)
def test_one_trace_for_all_sizes(implementation, jit_compile, form):
    options = dict(dtype="float32", dilation_rate=6)
    expected, found = layer(None, **options), layer(implementation, **options)
    traces = []

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3])],
        jit_compile=jit_compile,
    )
    def run(x):
        traces.append(x)
        return step(found, x, x[..., :1])

    for shape in [(1, 20, 9), (2, 1, 1), (1, 3, 14), (3, 6, 6)]:
        x = random(*shape, 3, dtype=tf.float32)
        expected(x), found(x)
        found.set_weights(expected.get_weights())
        for a, b in zip(step(expected, x, x[..., :1]), run(x)):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)
    assert len(traces) == 1


@pytest.mark.parametrize("implementation", dilated.IMPLEMENTATIONS)
def test_xla_with_known_sizes(implementation, form):
    convolve = layer(implementation, dtype="float32", dilation_rate=4)
    x = random(2, 9, 6, 3, dtype=tf.float32)
    upstream = random(*convolve(x).shape)
    compiled = tf.function(step, jit_compile=True)
    steps = [f(convolve, x, upstream) for f in (step, compiled)]
    for a, b in zip(*steps):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", dilated.IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "policy, tolerance",
    # Two roundings. Products of float16 are also summed in float16 here.
    [("mixed_bfloat16", 2 * 2.0**-8), ("mixed_float16", 8 * 2.0**-11)],
)
def test_half_precision(policy, tolerance, implementation, form):
    dtype = tf.as_dtype(policy[len("mixed_") :])
    exact, half = (
        layer(implementation, dtype=name, dilation_rate=3, use_bias=False)
        for name in ("float64", policy)
    )
    # Values that half precision can hold, so that only the sums differ.
    x, upstream = random(2, 12, 11, 16, dtype=dtype), random(2, 12, 11, 4)
    upstream = tf.cast(tf.cast(upstream, dtype), tf.float64)
    half(x), exact(x)
    kernel = tf.cast(tf.cast(half.kernel, dtype), tf.float64)
    half.set_weights([kernel]), exact.set_weights([kernel])
    expected = step(exact, tf.cast(x, tf.float64), upstream)
    for call in (step, tf.function(step)):
        found = call(half, x, upstream)
        assert [v.dtype for v in found] == [dtype, dtype, tf.float32]
        for a, b in zip(expected, found):
            error = np.abs(a - tf.cast(b, tf.float64))
            assert error.max() < tolerance * np.abs(a).max()


def test_shares_are_summed_in_float32(form):
    # In bfloat16 256 + 1 is 256, however often it is added.
    ones = layer(
        "taps",
        dtype="mixed_bfloat16",
        dilation_rate=1,
        use_bias=False,
        kernel_initializer="ones",
    )
    x = np.ones([1, 3, 3, 1], np.float32)
    x[0, 0, 0] = 256
    assert ones(x)[0, 1, 1, 0] == 264


def operations(layer, x):
    """How many operations of each kind a forward and backward pass has."""
    layer(x)

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x))
        return tape.gradient(loss, [x, *layer.trainable_variables])

    graph = run.get_concrete_function(x).graph
    return collections.Counter(op.type for op in graph.get_operations())


@pytest.mark.parametrize("rate, count", [(15, 9), (16, 1), (18, 1)])
def test_a_tap_that_is_nowhere_inside_costs_nothing(rate, count):
    options = dict(filters=70, dtype="float32", dilation_rate=rate)
    found = operations(layer("taps", **options), tf.ones([1, 16, 16, 2]))
    assert found["MatMul"] == 3 * count


def test_a_tap_that_is_nowhere_inside_has_no_gradient(form):
    convolve = layer("taps", dilation_rate=(18, 2))
    x = random(1, 16, 16, 2)
    gradient = step(convolve, x, random(1, 16, 16, 4))[2].numpy()
    assert (gradient[1] != 0).all()
    assert not gradient[[0, 2]].any()


@pytest.mark.parametrize(
    "channels, steps",
    [
        (256, NONE),
        (257, dilated.Steps(False, False, True)),
        (1024, dilated.Steps(False, False, True)),
        (1025, dilated.Steps(True, False, True)),
    ],
)
def test_auto_takes_the_faster_of_each(channels, steps, monkeypatch):
    monkeypatch.setattr(dilated, "has_gradient", lambda dtype: True)
    auto = layer("auto", dtype="float32", dilation_rate=2, filters=70)
    assert auto.steps_by_taps("bfloat16", channels) == steps
    found = operations(auto, tf.zeros([1, 5, 5, channels]))
    by_taps = [
        kind not in found
        for kind in ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")
    ]
    assert by_taps == list(steps)
    assert found["MatMul"] == 9 * sum(steps)
    assert "SpaceToBatchND" not in found


def test_auto_depends_on_the_device(monkeypatch):
    auto = layer("auto", dilation_rate=2)
    monkeypatch.setattr(dilated, "has_gradient", lambda dtype: False)
    assert auto.steps_by_taps("float32", 8) == ALL
    monkeypatch.setattr(
        tf.config, "get_visible_devices", lambda kind: ["0"] * (kind == "GPU")
    )
    assert auto.steps_by_taps("float32", 2048) == NONE


def test_a_named_implementation_is_taken():
    x = tf.zeros([1, 5, 5, 2048])
    taps = operations(layer("taps", dtype="float32", dilation_rate=2), x)
    assert not any(kind.startswith("Conv2D") for kind in taps)
    native = layer("native", dtype="float32", dilation_rate=2)
    assert "MatMul" not in operations(native, x)


@pytest.mark.parametrize("reader", dilated.IMPLEMENTATIONS)
@pytest.mark.parametrize("writer", [None, *dilated.IMPLEMENTATIONS])
def test_weights_and_checkpoints_are_those_of_keras(writer, reader, tmp_path):
    x = random(1, 9, 8, 3, dtype=tf.float32)
    options = dict(dtype="float32", dilation_rate=3, name="same")
    first, second = layer(writer, **options), layer(reader, **options)
    expected = first(x)
    assert (second(x).numpy() != expected.numpy()).any()
    assert len(first.variables) == len(second.variables) == 2
    for a, b in zip(first.variables, second.variables):
        assert (a.name, a.shape, a.dtype) == (b.name, b.shape, b.dtype)
    path = tf.train.Checkpoint(layer=first).write(str(tmp_path / "saved"))
    restored = tf.train.Checkpoint(layer=second).read(path)
    restored.assert_consumed().assert_existing_objects_matched()
    np.testing.assert_allclose(second(x), expected, atol=1e-5)


@pytest.mark.parametrize("implementation", dilated.IMPLEMENTATIONS)
def test_export(implementation, tmp_path):
    convolve = layer(implementation, dtype="float32", dilation_rate=6)
    x = random(1, 9, 8, 3, dtype=tf.float32)
    expected = convolve(x)
    module = tf.Module()
    module.layer = convolve
    module.infer = tf.function(
        convolve, input_signature=[tf.TensorSpec([None, None, None, 3])]
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.infer(x), expected, atol=1e-5)


def test_two_replicas():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    x = random(1, 9, 8, 3, dtype=tf.float32)
    with strategy.scope():
        convolve = layer("taps", dtype="float32", dilation_rate=6)
        upstream = random(*convolve(x).shape)
    expected = step(convolve, x, upstream)
    found = strategy.run(tf.function(step), (convolve, x, upstream))
    for a, b in zip(expected, found):
        for part in strategy.experimental_local_results(b):
            np.testing.assert_allclose(part, a, atol=1e-4)


def test_networks_choose_it():
    for name in dilated.IMPLEMENTATIONS:
        made = convolution.convolution(4, 3, dilation=2, dilated_conv=name)
        assert made.implementation == name
        assert made.get_config()["implementation"] == name


@pytest.mark.parametrize(
    "options, message",
    [
        (
            dict(implementation="im2col"),
            "`implementation` must be one of 'auto', 'native', 'taps'. "
            "Received: implementation='im2col'",
        ),
        (dict(size=2), "`kernel_size` must be odd"),
        (dict(strides=2, dilation_rate=1), "`strides` and `groups` must be 1"),
        (dict(groups=2), "`strides` and `groups` must be 1"),
        (dict(data_format="channels_first"), "`data_format` must be"),
    ],
)
def test_bad_options_are_named(options, message):
    options = {"implementation": "auto", "dilation_rate": 2, **options}
    with pytest.raises(ValueError, match=message):
        layer(**options)
