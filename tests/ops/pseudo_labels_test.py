# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tensorflow as tf

from tfseg.ops import pseudo_labels

LABEL = np.array([[[0, 1, 1], [2, 2, 255]]], np.int32)
VALID = np.array([[[True, True, True], [True, False, False]]])


def test_shares_count_valid_pixels_alone():
    # Valid: 0, 1, 1, 2.
    for function in (
        pseudo_labels.class_shares,
        tf.function(pseudo_labels.class_shares, jit_compile=True),
    ):
        shares = function(LABEL, VALID, 4)
        np.testing.assert_allclose(shares, [0.25, 0.5, 0.25, 0])


def test_nothing_valid_gives_zero():
    shares = pseudo_labels.class_shares(LABEL, np.zeros_like(VALID), 3)
    np.testing.assert_array_equal(shares, [0, 0, 0])


def test_normalizer_of_all_replicas_makes_their_mean_exact():
    two = np.concatenate([VALID, np.ones_like(VALID) & (LABEL != 255)])
    labels = np.concatenate([LABEL, LABEL])
    whole = pseudo_labels.class_shares(labels, two, 3)
    mean = tf.constant(two.sum() / 2, tf.float32)
    parts = [
        pseudo_labels.class_shares(labels[i : i + 1], two[i : i + 1], 3, mean)
        for i in range(2)
    ]
    np.testing.assert_allclose(whole, (parts[0] + parts[1]) / 2, rtol=1e-6)


def test_agreement_leaves_out_the_background_of_both():
    first = tf.constant([[[0, 0, 1, 2, 255]]])
    second = tf.constant([[[0, 1, 1, 1, 255]]])
    run = tf.function(pseudo_labels.agreement)
    np.testing.assert_array_equal(run(first, second), [2, 4])
    np.testing.assert_array_equal(run(first, second, background=0), [1, 3])
    nothing = tf.fill([1, 2, 2], 255)
    np.testing.assert_array_equal(run(nothing, nothing, background=0), [0, 0])
