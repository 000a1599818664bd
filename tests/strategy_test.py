# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tfseg import strategy


def test_slurm_environment_becomes_tf_config():
    text = strategy._tf_config_of_slurm(
        {
            "SLURM_STEP_NODELIST": "n[1-2],m7",
            "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
            "SLURM_PROCID": "3",
        },
        port=7000,
    )
    assert json.loads(text) == {
        "cluster": {
            "worker": ["n1:7000", "n1:7001", "n2:7000", "n2:7001", "m7:7000"]
        },
        "task": {"type": "worker", "index": 3},
    }


@pytest.mark.parametrize(
    "text, reason",
    [
        ("{", "JSONDecodeError"),
        ('{"task": {"type": "worker", "index": 0}}', "cluster"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}', "type"),
        (
            '{"cluster": {"worker": ["a:1"]}, '
            '"task": {"type": "worker", "index": 1}}',
            "task index 1 is not in 0..0",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, '
            '"task": {"type": "ps", "index": 0}}',
            "'ps' is not 'worker'",
        ),
    ],
)
def test_malformed_tf_config_is_shown_with_an_example(text, reason):
    with pytest.raises(ValueError) as error:
        strategy._check_tf_config(text)
    assert "TF_CONFIG is malformed" in str(error.value)
    assert reason in str(error.value)
    assert "host0:2222" in str(error.value)


def test_without_a_cluster_multi_worker_says_how_to_start(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="launch/multiworker.sh N"):
        strategy.build("multi_worker")


def test_batch_is_shared_equally():
    two = strategy.build("mirrored", replicas=2)
    assert two.num_replicas_in_sync == 2
    assert strategy.per_replica("labeled_batch", 6, two) == 3
    with pytest.raises(ValueError, match="is 5, which 2 .* Use 4 or 6"):
        strategy.per_replica("labeled_batch", 5, two)
    assert strategy.worker(two) == (0, 1)


def test_more_replicas_than_devices_is_named():
    with pytest.raises(ValueError, match="`config.runtime.replicas` is 3"):
        strategy.build("mirrored", replicas=3)
