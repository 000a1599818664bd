# SPDX-License-Identifier: Apache-2.0
"""Small builds of every network, for the tests of what holds for all."""

import functools

import numpy as np
from tensorflow import keras

from tfseg import lookup

NUM_CLASSES = 3
LEAVES = lookup.names("networks")
# Narrower than the default where the network lets us.
SMALL = {
    "fcn": dict(width=4),
    "cam": dict(backbone=dict(name="fcn", width=4)),
    "deeplab_v2": dict(depth=50),
    "dense_unet": dict(depth=121),
    "hrnet": dict(width=18),
}


def build(leaf, seed=0):
    keras.utils.set_random_seed(seed)
    return lookup.module("networks", leaf).build(
        num_classes=NUM_CLASSES, **SMALL.get(leaf, {})
    )


@functools.lru_cache(maxsize=1)
def shared(leaf):
    """One network per leaf for the tests that change no weights.

    Only one is in memory: the scope of `leaf` lets its tests run together.
    """
    return build(leaf)


def images(*shape):
    return np.random.RandomState(0).uniform(0, 255, shape).astype(np.float32)
