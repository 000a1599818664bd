# SPDX-License-Identifier: Apache-2.0
"""Imports what scripts import first; see `tests.preloaded`."""

import os
import warnings

# As launch/entry.py does.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", module="tensorflow_addons")

import keras_cv  # noqa: E402,F401
import tensorflow  # noqa: E402,F401
import tensorflow_addons  # noqa: E402,F401
