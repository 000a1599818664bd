# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from tensorflow import keras

from tfseg import lookup
from tfseg.benchmarks import decoders


def result(case):
    """Loss, and the gradient of the features."""
    keras.utils.set_random_seed(0)
    shape = (1, 2, 3, 8)
    inputs = decoders.examples(shape, "float32")
    compute = decoders.step(case, shape[-1])
    loss, (gradient, variables) = compute(*inputs, decoders.drawn(case, shape))
    assert len(variables) == len(decoders.kinds(case))
    return loss, gradient


@pytest.mark.parametrize("kind", ["I-VAT", "DropOut", "Con-Msk", "F-Noise"])
def test_all_ways_compute_the_same(kind):
    naive, *others = (
        result(kind + way) for way in (decoders.NAIVE, "", decoders.STREAMED)
    )
    for other in others:
        np.testing.assert_allclose(other[0], naive[0], rtol=1e-5)
        np.testing.assert_allclose(other[1], naive[1], rtol=1e-3, atol=1e-8)


def test_thirty_in_all():
    assert len(decoders.kinds(decoders.ALL + decoders.NAIVE)) == 30
    assert decoders.kinds(decoders.MAIN) == [decoders.MAIN]
    assert set(decoders.KINDS) < set(decoders.cases())


def test_record(monkeypatch):
    monkeypatch.setattr(decoders, "cases", lambda: ["F-Drop"])
    (record,) = decoders.run(size=16, batch=1, repeats=2)
    assert record["case"] == "F-Drop" and record["decoders"] == 1
    assert record["ratio"] > 0 and record["height"] == 16
    assert set(decoders.COLUMNS) < set(record)
    assert lookup.module("benchmarks", "decoders") is decoders


def test_size_must_fit_the_stride():
    with pytest.raises(ValueError, match="multiple of 8.*size=20"):
        next(decoders.run(size=20))
