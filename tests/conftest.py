# SPDX-License-Identifier: Apache-2.0
"""Two logical CPU devices, so that every strategy can be tested here."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
from absl import logging  # noqa: E402


def pytest_configure():
    # As the scripts in launch/ do; pytest shows it of a failed test.
    logging.set_verbosity(logging.INFO)
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
