# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from configs import digits_supervised
from tfseg.benchmarks import base, startup
from tfseg.datasets import digits


@pytest.fixture
def here(monkeypatch):
    """Suites run in this process, and on few scenes."""

    def prepare(*, dir):
        digits.prepare(dir=dir, num_train=8, num_validation=2, num_test=1)

    monkeypatch.setattr(base, "fresh", lambda function, *args: function(*args))
    monkeypatch.setattr(startup, "digits", type("", (), {"prepare": prepare}))


def test_records(here):
    config = digits_supervised.get_config("labels=4")
    config.network.width = 2
    started, steady = startup.run(
        configs={"supervised": config}, steps=10, repeats=1
    )
    assert started["case"] == "supervised, start" and started["ratio"] == 1
    parts = ("open_seconds", "build_seconds", "step_seconds")
    assert min(started[name] for name in parts) > 0
    total = sum(started[name] for name in parts)
    assert total == pytest.approx(started["seconds"])
    assert steady["case"] == "supervised, 10 steps"
    steps, mib = zip(*steady["rss"])
    assert steps == tuple(range(1, 11)) and min(mib) > 50
    assert steady["settled_mib"] == mib[0] and steady["final_mib"] == mib[-1]
    for record in (started, steady):
        assert set(startup.COLUMNS) < set(record)
        json.dumps(record)


def test_growth_by_hand():
    steps = np.arange(100, 2001, 100)
    # Grows fast, then by 3 MiB in 1,000 steps.
    mib = np.where(steps < 1000, 10 + steps / 10, 110 + 3 * steps / 1000)
    result = startup.growth(steps, mib)
    assert result["growth_mib"] == pytest.approx(3)
    assert result["settled_mib"] == 30 and result["final_mib"] == 116
    assert result["ratio"] == pytest.approx(116 / 30)


def test_small_run_has_the_parts_of_a_long_one():
    config = startup.small(digits_supervised.get_config(), 5000)
    train = config.train
    assert (train.report_every, train.evaluate_every) == (50, 250)
    assert train.checkpoint_every == 250 and train.num_pictures > 0
    assert digits_supervised.get_config().train.steps == 3000
