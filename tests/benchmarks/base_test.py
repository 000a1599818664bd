# SPDX-License-Identifier: Apache-2.0
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from tfseg.benchmarks import base


def test_times_are_taken_in_turn_and_without_the_warm_up():
    order = []

    def function(name):
        order.append(name)
        return tf.constant(0)

    times = base.seconds(
        {name: lambda name=name: function(name) for name in "ab"}, 3, warm_up=1
    )
    assert order == list("abababab")
    assert [len(times[name]) for name in "ab"] == [3, 3]


def test_summary_by_hand():
    result = base.summary([4.0, 1.0, 2.0, 3.0, 10.0])
    assert result == {"seconds": 3.0, "spread": pytest.approx(2 / 3)}
    # Of the rounds, not of the medians.
    assert base.ratio([2.0, 9.0, 4.0], [1.0, 1.0, 4.0]) == 2.0


def _memory(size):
    before = base.peak_mib()
    values = np.ones(size * 2**17)
    return os.getpid(), base.peak_mib() - before, float(values.sum())


def test_a_fresh_process_has_a_memory_peak_of_its_own():
    ballast = np.ones(300 * 2**17)
    process, peak, total = base.fresh(_memory, 50)
    assert process != os.getpid() and total == 50 * 2**17
    assert 50 <= peak < 100
    del ballast


def _two_peaks(sizes):
    peaks = []
    for size in sizes:
        before = base.new_peak_mib()
        np.ones(size * 2**17).sum()
        peaks.append(base.peak_mib() - before)
    return peaks


def test_a_new_peak_forgets_the_one_before():
    first, second = base.fresh(_two_peaks, (100, 50))
    assert 99 <= first < 120 and 49 <= second < 70


def test_records_are_lines_of_json(tmp_path):
    path = tmp_path / "records.jsonl"
    for seconds in (0.25, 1234.5):
        base.append(path, {"case": "x", "seconds": seconds})
    lines = path.read_text().splitlines()
    assert [json.loads(line)["seconds"] for line in lines] == [0.25, 1234.5]


def test_table():
    record = {"case": "fcn", "precision": "float32", "parameters": 135000}
    record |= {"seconds": 0.012345}
    columns = ("parameters", "seconds")
    assert base.row(record, columns).split() == [
        "fcn",
        "float32",
        "135,000",
        "0.0123",
    ]
    heading, row = base.heading(columns), base.row(record, columns)
    assert len(heading) == len(row)


def test_machine_has_a_name():
    assert base.machine()["device"]
