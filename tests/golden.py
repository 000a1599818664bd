# SPDX-License-Identifier: Apache-2.0
"""Vectors computed with the official code, kept beside the repository."""

import pathlib

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "shared" / "golden"


def load(name):
    """The arrays of one golden file; skips the test where it is absent."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"golden vectors are not here: {path}")
    return np.load(path, allow_pickle=False)
