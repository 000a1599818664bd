# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg import lookup
from tfseg.benchmarks import dc_loss


def test_plain_formulation_is_the_same_loss():
    data = dc_loss.inputs(40, 60, "float32")
    assert np.all(data[1].confidence > 0.75)
    loss, gradients = dc_loss.loss_step(*data)()
    wanted, wanted_gradients = dc_loss.plain_step(*data)()
    assert loss > 1
    np.testing.assert_allclose(loss, wanted, 1e-5)
    np.testing.assert_allclose(gradients, wanted_gradients, 1e-4, 1e-6)


@pytest.mark.parametrize("first", dc_loss.FREQUENCIES.values())
def test_classes_are_as_frequent_as_said(first):
    *_, bank = dc_loss.inputs(10, 100_000, "float32", first)
    share = np.bincount(bank.label, minlength=dc_loss.CLASSES) / 100_000
    np.testing.assert_allclose(share[0], first, atol=0.01)
    rest = (1 - first) / (dc_loss.CLASSES - 1)
    np.testing.assert_allclose(share[1:], rest, atol=0.01)


def test_bare_products_by_hand(monkeypatch):
    monkeypatch.setattr(dc_loss, "_TILE", (3, 4))
    anchor, keys = tf.random.stateless_normal([2, 10, 5], [1, 2])
    keys = keys[:9]
    # All sums of what the second product gives.
    expected = tf.reduce_sum(tf.matmul(anchor @ tf.transpose(keys), keys))
    products = dc_loss.bare_products(anchor, keys)
    np.testing.assert_allclose(products(), expected, 1e-5)


@pytest.mark.parametrize("limit", [2**29, 0])
def test_record(monkeypatch, limit):
    monkeypatch.setattr(dc_loss, "_PLAIN_BYTES", limit)
    monkeypatch.setattr(dc_loss.base, "fresh", lambda f, *args: f(*args))
    (record,) = dc_loss.run(
        anchors=(30,),
        negatives=(50,),
        classes=("voc",),
        precision=("mixed_bfloat16",),
        repeats=2,
    )
    assert (record["n"], record["m"]) == (30, 50)
    assert record["classes"] == "voc"
    assert record["bare_ratio"] > 0 and set(dc_loss.COLUMNS) < set(record)
    assert np.isnan(record["ratio"]) == (limit == 0)
    assert lookup.module("benchmarks", "dc_loss") is dc_loss
