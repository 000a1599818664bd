# SPDX-License-Identifier: Apache-2.0
"""Gives a network the weights with which its golden vectors were made."""

import json

import numpy as np

from tfseg.networks import base


def parameter(index, name, shape):
    """Parameter `index` of the golden network, in Keras' layout."""
    values = np.random.RandomState(index).randn(*shape)
    if len(shape) == 4:
        values *= np.sqrt(2 / np.prod(shape[1:]))
        return values.transpose(2, 3, 1, 0)
    return 1 + 0.1 * values if name.endswith("weight") else 0.1 * values


def statistic(index, name, shape):
    """Running mean or variance `index` of the golden network."""
    random = np.random.RandomState(100000 + index)
    if name.endswith("running_mean"):
        return 0.1 * random.randn(*shape)
    return 1 + 0.5 * random.rand(*shape)


def assign(model, golden):
    """Fills all variables; those of `model` come first in the tables."""
    for variables, table, values in (
        (model.trainable_variables, "param_table", parameter),
        (model.non_trainable_variables, "buffer_table", statistic),
    ):
        entries = json.loads(str(golden[table]))
        for index, (variable, entry) in enumerate(zip(variables, entries)):
            variable.assign(values(index, *entry).astype(np.float32))


def image(golden):
    """The golden network's input before normalization."""
    mean, std = base.NORMALIZATIONS["torch"]
    return (golden["x"] * np.array(std) + mean).astype(np.float32)
