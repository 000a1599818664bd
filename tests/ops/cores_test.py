# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops import cores


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
def test_results_in_order(wrap, ours, monkeypatch):
    monkeypatch.setattr(cores, "are_ours", lambda: ours)

    def run(values, count):
        def one(number):
            row = values[number]
            # A loop whose length depends on the number.
            total = tf.while_loop(
                lambda i, _: i < number,
                lambda i, total: (i + 1, total + row[0]),
                (0, 0.0),
            )[1]
            return [total, 2 * row]

        return cores.map_range(one, count)

    values = np.random.RandomState(0).normal(size=[37, 3]).astype(np.float32)
    totals, doubled = wrap(run)(tf.constant(values), tf.constant(37))
    np.testing.assert_allclose(totals, np.arange(37) * values[:, 0], rtol=1e-5)
    np.testing.assert_array_equal(doubled, 2 * values)


def test_an_error_is_raised():
    def one(number):
        with tf.control_dependencies([tf.debugging.assert_less(number, 3)]):
            return [tf.identity(number)]

    with pytest.raises(tf.errors.InvalidArgumentError):
        cores.map_range(one, 5)
