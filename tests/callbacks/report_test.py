# SPDX-License-Identifier: Apache-2.0
import json
import math

import numpy as np
import tensorflow as tf

from tfseg.callbacks import report


def test_resumed_metrics_drop_what_will_be_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 100, "train/loss": 1.0}\n'
        '{"step": 200, "train/loss": 0.5}\n'
        '{"step": 300, "tra'
    )
    writer = report.Writer(str(tmp_path), step=100)
    writer.scalars("train", 200, {"train/loss": 0.25, "val/miou": math.nan})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"step": 100, "train/loss": 1.0},
        {"step": 200, "train/loss": 0.25, "val/miou": None},
    ]


def test_phases_have_folders_of_their_own(tmp_path):
    writer = report.Writer(str(tmp_path), step=0)
    writer.scalars("train", 1, {"train/loss": 2.0})
    writer.images("val", 1, "val/pictures", tf.zeros([2, 4, 4, 3], tf.uint8))
    for phase, tags in [
        ("train", {"train/loss"}),
        ("val", {"val/pictures"}),
    ]:
        (path,) = (tmp_path / phase).iterdir()
        events = tf.compat.v1.train.summary_iterator(str(path))
        found = {v.tag for event in events for v in event.summary.value}
        assert found == tags


def test_resident_memory_is_seen():
    before = report.resident_mib()
    ballast = np.ones(64 * 2**17)
    assert 60 < report.resident_mib() - before < 70
    del ballast
