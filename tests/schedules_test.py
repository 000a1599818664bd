# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg import schedules

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])


def rates(wrap, steps, name="poly", **options):
    rate = wrap(schedules.learning_rate(name, **options))
    return np.array([rate(tf.constant(s, tf.int64)) for s in steps])


@CALLS
@pytest.mark.parametrize("warmup,key", [(0, "lr_64"), (100, "lr_warm_64")])
def test_poly_agrees_with_cps(wrap, warmup, key):
    data = golden.load("poly_lr_cps")
    got = rates(
        wrap,
        data["iterations"],
        base_rate=0.01,
        total_steps=2000,
        warmup_steps=warmup,
    )
    # 1 - step / total is exact to 1e-7 of 1, thus to 1e-4 of the last rate.
    np.testing.assert_allclose(got, data[key], rtol=1e-6, atol=1e-8)


def test_poly_agrees_with_french():
    poly = golden.load("ramp_poly_cmx")["poly_64"]
    got = rates(tf.function, range(101), base_rate=0.1, total_steps=100)
    np.testing.assert_allclose(got, poly, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("column,multiplier", [(0, 1.0), (1, 0.1)])
def test_poly_agrees_with_cct(column, multiplier):
    poly = golden.load("poly_lr_cct")["lr_64"][:, column]
    got = rates(tf.function, range(21), base_rate=0.01, total_steps=20)
    np.testing.assert_allclose(got * multiplier, poly, rtol=1e-5, atol=1e-9)


@CALLS
def test_cosine(wrap):
    got = rates(
        wrap, [0, 25, 50, 100, 150], "cosine", base_rate=2.0, total_steps=100
    )
    expected = [2, 1 + math.sqrt(0.5), 1, 0, 0]
    np.testing.assert_allclose(got, expected, atol=1e-6)


@CALLS
@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_warm_up_stands_before_every_schedule(wrap, name):
    got = rates(
        wrap, [0, 1, 4], name, base_rate=2.0, total_steps=8, warmup_steps=4
    )
    after = {"constant": 2.0, "cosine": 1.0}[name]
    np.testing.assert_allclose(got, [0, 0.5, after], atol=1e-6)


def test_constant_is_a_number():
    assert (
        schedules.learning_rate("constant", base_rate=0.3, total_steps=5) == 0.3
    )


def test_bad_learning_rate_is_refused():
    with pytest.raises(ValueError, match="constant, poly, cosine.*'step'"):
        schedules.learning_rate("step", base_rate=1.0, total_steps=5)
    with pytest.raises(ValueError, match="`warmup_steps`.*6"):
        schedules.learning_rate(
            "poly", base_rate=1.0, total_steps=5, warmup_steps=6
        )


def ramps(wrap, name, steps, ramp_steps):
    run = wrap(lambda step: schedules.ramp(name, step, ramp_steps))
    values = [run(tf.constant(step)) for step in steps]
    assert all(v.dtype == tf.float32 and v.shape == () for v in values)
    return np.array(values)


@CALLS
@pytest.mark.parametrize("name", ["sigmoid", "linear", "cosine", "log", "exp"])
def test_ramps_agree_with_cct(wrap, name):
    data = golden.load("ramps_cct")
    x = data["x_64"] if "x_64" in data else data["x"]
    got = ramps(wrap, name, x, 10)
    np.testing.assert_allclose(got, data[f"{name}_64"], rtol=1e-6, atol=1e-7)
    # As CCT drives them: 30 times the ramp of the global iteration over 800.
    key = "cw_64" if name == "sigmoid" else f"cw_{name}_64"
    steps = [100 * epoch + step for epoch, step in data["cw_epoch_iter"]]
    got = 30 * ramps(wrap, name, steps, 800)
    np.testing.assert_allclose(got, data[key], rtol=1e-6, atol=1e-6)


def test_sigmoid_agrees_with_french():
    data = golden.load("ramp_poly_cmx")
    for length, key in ((10, "ramp_64"), (0, "ramp_len0_64")):
        got = ramps(tf.function, "sigmoid", data["epochs"], length)
        np.testing.assert_allclose(got, data[key], rtol=1e-6)


@CALLS
@pytest.mark.parametrize("name", sorted(schedules.RAMPS))
def test_ramps_are_monotone_and_end_at_one(wrap, name):
    got = ramps(wrap, name, [0, 1, 5, 9, 10, 11, 10**12], 10)
    assert np.all(np.diff(got) >= 0) and np.all((0 <= got) & (got <= 1))
    end = 1 - math.exp(-5) if name == "log" else 1
    np.testing.assert_allclose(got[-3:], end, rtol=1e-6)
    start = {"none": 1, "sigmoid": math.exp(-5), "exp": math.exp(-5)}
    np.testing.assert_allclose(got[0], start.get(name, 0), rtol=1e-6)


@CALLS
@pytest.mark.parametrize("name", sorted(schedules.RAMPS))
def test_length_zero_gives_one(wrap, name):
    np.testing.assert_array_equal(ramps(wrap, name, [0, 3], 0), 1)


def test_ramp_is_traced_once():
    traces = []

    @tf.function
    def run(step):
        traces.append(1)
        return schedules.ramp("sigmoid", step, 10)

    step = tf.Variable(0, dtype=tf.int64)
    for _ in range(3):
        run(step)
        run(step.value())
        step.assign_add(1)
    # One for the variable and one for its value, none for a new number.
    assert len(traces) == 2


def test_unknown_ramp_is_refused():
    with pytest.raises(ValueError, match="sigmoid.*'step'"):
        schedules.ramp("step", 0, 10)
