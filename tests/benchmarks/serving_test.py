# SPDX-License-Identifier: Apache-2.0
import json
import pickle

import numpy as np
import pytest
import tensorflow as tf

from tfseg import lookup
from tfseg.benchmarks import serving

FCN = {"name": "fcn", "width": 4}


@pytest.fixture(name="exported", scope="module")
def _exported(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("serving") / "export")
    serving.write(FCN, "float32", path)
    return path


def test_both_signatures_are_shown_the_same_images(exported):
    model = tf.saved_model.load(exported)
    images = serving.argument("serving_default", 24, 2)
    encoded = serving.argument("from_encoded", 24, 2)
    assert images.shape == (2, 24, 24, 3) and images.dtype == tf.uint8
    decoded = np.stack([tf.io.decode_jpeg(file) for file in encoded])
    # JPEG is lossy, but not on smooth images.
    difference = np.abs(decoded.astype(int) - images.numpy())
    assert difference.mean() < 8 < np.std(images)
    maps = [
        serving.call(model, signature, value)().numpy()
        for signature, value in [
            ("serving_default", decoded),
            ("from_encoded", encoded),
        ]
    ]
    assert maps[0].dtype == np.uint8 and maps[0].shape == (2, 24, 24)
    np.testing.assert_array_equal(*maps)


def test_latency_by_hand():
    calls = [1.0] * 50 + [3.0] * 51
    result = serving.latency(calls, [2.0] * 101, batch=2)
    assert result["seconds"] == 3 and result["seconds_per_image"] == 1.5
    assert result["p99_seconds"] == 3 and result["bare_p99_seconds"] == 2
    assert result["bare_seconds"] == 2
    # Throughput: twice as fast as the bare one, then two thirds.
    assert result["ratio"] == pytest.approx(2 / 3)


def test_bare_network_takes_turns_with_the_signatures(exported):
    results = serving.measure(FCN, "float32", exported, 16, 1, 3)
    assert set(results) == set(serving.SIGNATURES)
    both = [result["bare_seconds"] for result in results.values()]
    assert both[0] == both[1] > 0


def test_record(monkeypatch):
    def here(function, *args):
        return pickle.loads(pickle.dumps(function))(*args)

    monkeypatch.setattr(serving.base, "fresh", here)
    monkeypatch.setattr(serving, "STARTS", 1)
    monkeypatch.setattr(serving, "SIGNATURES", {"from_encoded": "encoded"})
    (record,) = serving.run(
        networks={"small": FCN}, size=16, batch=2, repeats=2
    )
    assert record["case"] == "from_encoded, batch 2" and record["calls"] == 2
    assert set(serving.COLUMNS) < set(record)
    times = [record[f"{name}_seconds"] for name in ("import", "load", "first")]
    assert 0 < times[0] < times[1] < times[2]
    assert record["seconds_per_image"] == record["seconds"] / 2
    assert record["seconds"] <= record["p99_seconds"] and record["ratio"] > 0
    json.dumps(record)
    assert lookup.module("benchmarks", "serving") is serving
