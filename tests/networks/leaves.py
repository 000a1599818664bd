# SPDX-License-Identifier: Apache-2.0
"""Small builds of every network, for the tests of what holds for all."""

import contextlib
import functools
from unittest import mock

import numpy as np
from tensorflow import keras

from tests.networks import tiny_light
from tfseg import lookup
from tfseg.networks import cct, deeplab_v3_plus, pspnet, vgg16
from tfseg.networks.encoders import densenet, hrnet, light, resnet

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


@contextlib.contextmanager
def shallow():
    """The same parts, repeated less often and narrower.

    What holds for all does not depend on it, and takes half as long. The full
    ones are built by the tests of each.
    """
    with contextlib.ExitStack() as stack:
        for table, entries in (
            (resnet.BLOCKS, {50: (2, 2, 2, 2)}),
            (densenet.LAYOUTS, {121: (64, 32, (2, 2, 3, 2))}),
            (light.MOBILENET_V3, {"small": tiny_light.MOBILENET}),
        ):
            stack.enter_context(mock.patch.dict(table, entries))
        for module, values in (
            (hrnet, dict(BLOCKS=1, MODULES=(1, 2, 1))),
            (cct, dict(FILTERS=64)),
            (pspnet, dict(FILTERS=64)),
            (deeplab_v3_plus, dict(FILTERS=64)),
            (vgg16, dict(FILTERS=64)),
        ):
            stack.enter_context(mock.patch.multiple(module, **values))
        yield


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
