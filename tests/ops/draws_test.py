# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfseg.ops import draws


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 4.0])
def test_beta_has_its_distribution(alpha):
    drawn = draws.beta(20000, tf.constant([1, 2]), alpha=alpha).numpy()
    assert drawn.dtype == np.float32 and drawn.shape == (20000,)
    assert 0 <= drawn.min() and drawn.max() <= 1
    # float32 rounds what is near 1; the exact law has no steps there.
    inner = drawn[(drawn > 1e-6) & (drawn < 1 - 1e-6)]
    law = scipy.stats.beta(alpha, alpha)
    low, high = law.cdf(1e-6), law.cdf(1 - 1e-6)
    test = scipy.stats.kstest(
        inner, lambda x: (law.cdf(x) - low) / (high - low)
    )
    assert test.pvalue > 1e-3
    np.testing.assert_allclose(len(inner) / 20000, high - low, atol=0.015)


@pytest.mark.parametrize("alpha", [1e-6, 1e-3])
def test_tiny_alpha_gives_zero_or_one_and_no_nan(alpha):
    drawn = draws.beta(1000, tf.constant([3, 4]), alpha=alpha).numpy()
    assert np.isfinite(drawn).all()
    assert np.minimum(drawn, 1 - drawn).max() < 0.5
    assert 0.4 < drawn.mean() < 0.6


def test_xla_draws_the_same():
    def both(seed):
        return draws.uniform([5], seed), draws.beta(5, seed, alpha=0.1)

    seed = tf.constant([5, 6])
    compiled = tf.function(both, jit_compile=True)(seed)
    for a, b in zip(both(seed), compiled):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    again = both(seed)
    np.testing.assert_array_equal(both(seed)[1], again[1])
    assert np.any(again[1] != both(tf.constant([5, 7]))[1])


def test_count_may_be_a_tensor():
    drawn = tf.function(lambda n: draws.beta(n, [1, 2], alpha=1.0))
    assert drawn(tf.constant(3)).shape == (3,)
