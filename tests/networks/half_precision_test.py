# SPDX-License-Identifier: Apache-2.0
"""Every network in mixed precision."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.networks.leaves import build, images, shared


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_gives_float32_logits(leaf, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        network = build(leaf)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    image = images(1, 17, 19, 3)
    features = network.encoder(image)
    assert features[network.encoder.top].dtype.name == policy[len("mixed_") :]
    # bfloat16 cannot tell these two before they are normalized.
    first, second = (
        network.encoder(np.full_like(image, value))[network.encoder.top]
        for value in (200.0, 200.4)
    )
    assert (first.numpy() != second.numpy()).any()
    logits = network(image)
    assert logits.dtype == tf.float32
    exact = shared(leaf)
    for a, b in zip(network.variables, exact.variables):
        a.assign(b)
    expected = exact(image)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(network(image), expected, atol=0.1 * scale)
