# SPDX-License-Identifier: Apache-2.0
import json
import os

import numpy as np
import tensorflow as tf

from tfseg import strategy as strategies
from tfseg.benchmarks import base, replicas

FCN = {"name": "fcn", "width": 4}


def test_replicas_have_parts_of_one_batch():
    strategy = strategies.build("mirrored", replicas=2)
    examples = {"labeled": {"image": tf.range(12)[:, None]}}
    parts = replicas.divided(strategy, examples)["labeled"]["image"]
    parts = strategy.experimental_local_results(parts)
    np.testing.assert_array_equal(tf.concat(parts, 0)[:, 0], range(12))
    assert [len(part) for part in parts] == [6, 6]


def test_two_replicas_take_a_step_beside_one():
    options = {"name": "supervised"}
    result = replicas.measure(1, 2, FCN, options, 16, 4, 2)
    assert result["ratio"] > 0 and result["seconds"] > 0


def test_workers_get_a_cluster(monkeypatch):
    def fresh(function, *args):
        seen.append(args)
        return args[0]

    seen = []
    monkeypatch.setattr(base, "fresh", fresh)
    # The first worker's, whichever ends first.
    assert replicas.on_workers(2, "rest") == 0
    numbers, addresses, rest = zip(*sorted(seen))
    assert numbers == (0, 1) and rest == ("rest", "rest")
    assert addresses[0] == addresses[1] and len(set(addresses[0])) == 2


def test_a_worker_knows_its_place(monkeypatch):
    monkeypatch.setattr(replicas, "measure", lambda *args: args)
    monkeypatch.setattr(os, "environ", {})
    assert replicas._work(1, ["a:1", "b:2"], 3) == (2, 3)
    config = json.loads(os.environ["TF_CONFIG"])
    assert config["cluster"] == {"worker": ["a:1", "b:2"]}
    assert config["task"] == {"type": "worker", "index": 1}


def test_records(monkeypatch):
    result = {"seconds": 0.5, "spread": 0.1, "ratio": 2.0, "peak_mib": 3.0}
    monkeypatch.setattr(replicas, "on_workers", lambda *args: result)
    records = list(
        replicas.run(networks={"fcn": FCN}, methods={"a": {}}, batch=2)
    )
    cases = [record["case"] for record in records]
    assert cases == ["a, 1 replica", "a, 2 replicas", "a, 2 workers"]
    assert records[0]["images_per_second"] == 12
    assert set(replicas.COLUMNS) < set(records[0])
