# SPDX-License-Identifier: Apache-2.0
"""Two logical CPU devices, so that every strategy can be tested here."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402
from absl import logging  # noqa: E402


def pytest_configure():
    # Traces make many objects that stay: the default would search them all
    # again and again.
    gc.set_threshold(100_000, 20, 100)
    # As the scripts in launch/ do; pytest shows it of a failed test.
    logging.set_verbosity(logging.INFO)
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )


@pytest.fixture(scope="module", autouse=True)
def _settle():
    """What a file leaves behind, graphs above all, is not searched again."""
    yield
    gc.collect()
    gc.freeze()


# Files that take longest, which therefore begin: else one process waits for
# the other at the end.
_SLOWEST = (
    "methods/contract_test.py",
    "tests/train_test.py",
    "networks/contract_test.py",
    "launch/train_test.py",
    "launch/multiworker_test.py",
    "tests/pseudo_labels_test.py",
    "bad_input_test.py",
    "whole_line_test.py",
    "packed_test.py",
    "domains_test.py",
    "compare_test.py",
)


def pytest_collection_modifyitems(items):
    def place(item):
        path = item.path.as_posix()
        slow = [i for i, end in enumerate(_SLOWEST) if path.endswith(end)]
        return slow[0] if slow else len(_SLOWEST)

    items.sort(key=place)
