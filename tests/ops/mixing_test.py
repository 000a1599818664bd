# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops import mixing

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
DTYPES = [tf.float32, tf.float16, tf.bfloat16, tf.int32, tf.uint8, tf.bool]
MASK = np.array([[[1, 0, 1], [0, 0, 1]]], np.float32)


@CALLS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", [MASK, MASK[..., None], MASK > 0])
def test_mix_takes_second_where_the_mask_is_set(wrap, dtype, mask):
    first = tf.cast(np.zeros([1, 2, 3]), dtype)
    second = tf.cast(np.ones([1, 2, 3]), dtype)
    mix = wrap(mixing.mix)
    mixed = mix(mask, first, second)
    assert mixed.dtype == dtype
    np.testing.assert_array_equal(tf.cast(mixed, tf.float32), MASK)
    image = mix(mask, first[..., None], tf.stack([second] * 1, -1))
    np.testing.assert_array_equal(tf.cast(image, tf.float32)[..., 0], MASK)


@CALLS
def test_mix_of_a_thing_with_itself_is_that_thing(wrap):
    mix = wrap(mixing.mix)
    image = tf.random.stateless_normal([1, 2, 3, 4], [1, 2])
    np.testing.assert_array_equal(mix(MASK, image, image), image)


def test_mix_agrees_with_the_formula_and_zeros_and_ones():
    first, second = (
        tf.random.stateless_normal([1, 2, 3, 4], [0, i]) for i in range(2)
    )
    mask = MASK[..., None]
    np.testing.assert_array_equal(
        mixing.mix(mask, first, second), first * (1 - mask) + second * mask
    )
    np.testing.assert_array_equal(mixing.mix(0 * mask, first, second), first)
    np.testing.assert_array_equal(
        mixing.mix(0 * mask + 1, first, second), second
    )


def test_mix_does_not_spread_nan():
    first = tf.where(MASK > 0, np.nan, 1.0)
    assert np.isfinite(mixing.mix(MASK, first, tf.zeros_like(first))).all()


def test_mix_refuses_wrong_ranks():
    label = np.zeros([2, 2, 3])
    with pytest.raises(ValueError, match="`mask`"):
        mixing.mix(MASK[0], label, label)
    with pytest.raises(ValueError, match="`first`"):
        mixing.mix(MASK, label[0], label[0])
    with pytest.raises(ValueError, match="`second`"):
        mixing.mix(MASK, label, label[..., None])


@CALLS
@pytest.mark.parametrize("shape", [[None], None])
def test_pairs_are_neighbors(wrap, shape):
    pairs = mixing.pairs
    if wrap is tf.function:
        spec = tf.TensorSpec(shape and [*shape, 2], tf.int32)
        pairs = wrap(pairs, input_signature=[spec]) if shape else wrap(pairs)
    x = tf.reshape(tf.range(12), [6, 2])
    first, second = pairs(x)
    np.testing.assert_array_equal(first[:, 0], [0, 4, 8])
    np.testing.assert_array_equal(second[:, 0], [2, 6, 10])
    alone, partner = pairs(x[:1])
    np.testing.assert_array_equal(alone, x[:1])
    np.testing.assert_array_equal(partner, x[:1])


def test_pairs_do_not_depend_on_the_cut_over_replicas():
    x = np.arange(8)
    whole = np.stack(mixing.pairs(x))
    parts = np.concatenate(
        [np.stack(mixing.pairs(part)) for part in np.split(x, 2)], 1
    )
    np.testing.assert_array_equal(whole, parts)


def test_pairs_refuse_an_odd_batch():
    with pytest.raises(ValueError, match="config.train.unlabeled_batch.*3"):
        mixing.pairs(tf.zeros([3, 2]))
    dynamic = tf.function(
        mixing.pairs, input_signature=[tf.TensorSpec([None, 2])]
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="config.train.unlabeled_batch"
    ):
        dynamic(tf.zeros([3, 2]))


def test_pairs_keep_the_static_batch():
    @tf.function(input_signature=[tf.TensorSpec([6, None, 2])])
    def check(x):
        first, second = mixing.pairs(x)
        assert first.shape[0] == second.shape[0] == 3
        return first

    check(tf.zeros([6, 1, 2]))
