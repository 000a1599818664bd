# SPDX-License-Identifier: Apache-2.0
"""The softmax of blocks; for the rest see sub_pixel_decoders_test.py."""

import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops import sub_pixel_rows


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
@pytest.mark.parametrize("largest", [5, 60, 100, 500, -60, -100, -500])
def test_softmax(largest, wrap, masked):
    random = np.random.RandomState(0)
    logits = random.normal(0, 3, [40, 21]).astype(np.float32)
    # Rows at different heights, one of them beyond what exp can represent.
    logits += np.linspace(0, largest, 40, dtype=np.float32)[:, None]
    exact = np.exp(np.float64(logits) - logits.max(1, keepdims=True))
    exact /= exact.sum(1, keepdims=True)
    mask = tf.constant(np.arange(40)[:, None] % 3 > 0, tf.float32)
    arguments = (logits, mask)[: 1 + masked]
    prob = wrap(sub_pixel_rows.softmax)(*map(tf.constant, arguments))
    exact = exact * mask if masked else exact
    np.testing.assert_allclose(prob, exact, rtol=2e-5, atol=1e-12)


def test_softmax_of_what_is_no_number():
    logits = tf.constant([[1.0, np.nan, 2.0], [1.0, 1.0, 1.0]])
    prob = sub_pixel_rows.softmax(logits).numpy()
    assert np.isnan(prob[0]).any()
    np.testing.assert_allclose(prob[1], 1 / 3, rtol=1e-6)
