# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops import shapes


def test_right_rank_passes():
    shapes.check_rank("label", tf.zeros([2, 3]), 2)
    shapes.check_rank("label", np.zeros([2, 3]), (1, 2))
    shapes.check_rank("label", tf.constant(1.0), 0)


def test_wrong_rank_names_tensor_shape_and_rank():
    with pytest.raises(ValueError, match=r"`weight` must have rank 1.*\(2, 1"):
        shapes.check_rank("weight", tf.zeros([2, 1]), 1)
    with pytest.raises(ValueError, match="rank 3 or 4.*rank 2"):
        shapes.check_rank("mask", np.zeros([2, 1]), (3, 4))


def test_costs_nothing_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec([None])])
    def check(unknown, known):
        shapes.check_rank("unknown", unknown, 4)
        shapes.check_rank("known", known, 1)
        return 0

    kinds = {
        op.type for op in check.get_concrete_function().graph.get_operations()
    }
    assert kinds <= {"Placeholder", "Const", "Identity", "NoOp"}
