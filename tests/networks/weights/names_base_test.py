# SPDX-License-Identifier: Apache-2.0
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg.networks import fcn
from tfseg.networks.layers import dropout
from tfseg.networks.weights.names import base


class Block(keras.layers.Layer):
    """A convolution and a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(4, (3, 2), use_bias=False)
        self.norm = keras.layers.BatchNormalization()

    def call(self, x):
        return self.norm(self.conv(x))


class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [[Block()], [Block()]]
        self.dropout = dropout.Dropout(0.5)
        self.dense = keras.layers.Dense(5)

    def call(self, x):
        for (block,) in self.blocks:
            x = block(x)
        return self.dense(self.dropout(x))


@pytest.fixture
def model():
    model = Model()
    model(np.zeros([1, 9, 9, 3], np.float32))
    return model


RULES = [
    (r"layer(\d)\.conv", r"blocks/\1/0/conv"),
    (r"layer(\d)\.bn", r"blocks/\1/0/norm"),
    (r"fc", "dense"),
]


def _state(seed=0):
    """What PyTorch would hold of Model."""
    draw = np.random.RandomState(seed)
    shapes = {}
    for n, channels in enumerate((3, 4)):
        shapes[f"layer{n}.conv.weight"] = (4, channels, 3, 2)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"layer{n}.bn.{leaf}"] = (4,)
        shapes[f"layer{n}.bn.num_batches_tracked"] = ()
    shapes.update({"fc.weight": (5, 4), "fc.bias": (5,)})
    return {
        name: np.asarray(draw.randn(*shape), np.float32)
        for name, shape in shapes.items()
    }


def _fit(state, model, rules=RULES, dropped=()):
    targets = base.by_rules(rules)
    return base.fit(state, base.paths(model), targets, dropped)


def test_prefixed_rules_are_for_a_part():
    rules = base.prefixed([(r"a\.(\d)", r"b/\1")], "x.y", "z")
    assert base.by_rules(rules)("x.y.a.3") == ["z/b/3"]
    assert base.by_rules(rules)("xzy.a.3") == []


def test_paths_name_attributes_and_items(model):
    paths = base.paths(model)
    assert len(paths) == len(model.variables) == 12
    assert all(v is w for v, w in zip(paths.values(), model.variables))
    assert paths["blocks/1/0/conv/kernel"] is model.blocks[1][0].conv.kernel
    assert paths["dense/bias"] is model.dense.bias
    # The state of dropout is no weight.
    assert not [path for path in paths if "dropout" in path]


def test_of_two_paths_the_shorter_one_counts(model):
    model.last = model.blocks[1][0]
    model.another = [[model.dense]]
    paths = base.paths(model)
    assert len(paths) == 12
    assert paths["last/norm/gamma"] is model.last.norm.gamma
    assert paths["dense/bias"] is model.dense.bias


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_paths_and_assignment_under_a_strategy(precision):
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    keras.mixed_precision.set_global_policy(precision)
    try:
        with strategy.scope():
            encoder = fcn.build(num_classes=2, width=4).encoder
            paths = base.paths(encoder)
            values = {
                name: np.random.RandomState(i).rand(*v.shape)
                for i, (name, v) in enumerate(paths.items())
            }
            base.fit_paths(values, paths).assign()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert "stages/2/1/branch/convolution/kernel" in paths
    for name, variable in paths.items():
        for replica in strategy.experimental_local_results(variable):
            np.testing.assert_allclose(replica, values[name], rtol=1e-6)


def test_a_variable_that_is_no_attribute_is_named():
    class Hiding(Model):
        @property
        def variables(self):
            return [*super().variables, tf.Variable(1.0, name="hidden")]

    with pytest.raises(ValueError, match="Lost: hidden:0."):
        base.paths(Hiding())


def test_values_arrive_in_the_layout_of_keras(model):
    state = _state()
    found = _fit(state, model)
    assert not found.problems() and not found.dropped
    assert len(found.matched) == 12
    found.assign()
    kernel = model.blocks[0][0].conv.kernel.numpy()
    assert kernel.shape == (3, 2, 3, 4)
    # height 2, width 1, input 0, output 3
    assert kernel[2, 1, 0, 3] == state["layer0.conv.weight"][3, 0, 2, 1]
    norm = model.blocks[1][0].norm
    np.testing.assert_array_equal(norm.gamma, state["layer1.bn.weight"])
    np.testing.assert_array_equal(norm.beta, state["layer1.bn.bias"])
    np.testing.assert_array_equal(
        norm.moving_mean, state["layer1.bn.running_mean"]
    )
    np.testing.assert_array_equal(
        norm.moving_variance, state["layer1.bn.running_var"]
    )
    dense = model.dense
    np.testing.assert_array_equal(dense.kernel, state["fc.weight"].T)
    np.testing.assert_array_equal(dense.bias, state["fc.bias"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_precisions_are_converted(model, dtype):
    state = {name: value.astype(dtype) for name, value in _state().items()}
    found = _fit(state, model)
    found.assign()
    np.testing.assert_array_equal(
        model.dense.bias, state["fc.bias"].astype(np.float32)
    )


def test_everything_that_does_not_fit_is_listed(model):
    state = _state()
    before = [variable.numpy() for variable in model.variables]
    del state["layer0.bn.bias"]
    state["fc.weight"] = np.zeros([7, 4], np.float32)
    state["layer1.conv.weight"] = state["layer1.conv.weight"].astype(np.int8)
    state["layer2.conv.weight"] = np.zeros(1, np.float32)
    state["aux.weight"] = state["head.0.bias"] = np.zeros(1, np.float32)
    found = _fit(state, model, dropped=[r"head\.\d"])
    assert found.unmatched == ["layer2.conv.weight", "aux.weight"]
    assert found.dropped == ["head.0.bias"]
    assert found.missing == [
        "blocks/0/0/norm/beta",
        "blocks/1/0/conv/kernel",
        "dense/kernel",
    ]
    assert found.misshaped == [
        "layer1.conv.weight (int8 [3, 2, 4, 4] for blocks/1/0/conv/kernel, "
        "[3, 2, 4, 4])",
        "fc.weight (float32 [4, 7] for dense/kernel, [4, 5])",
    ]
    text = found.problems()
    assert "2 of another shape: layer1.conv.weight (int8" in text
    assert "2 in the file, but not in the model: layer2.conv.weight" in text
    assert "3 in the model, but not in the file" in text
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable, value)
    # What fits can still be taken.
    assert len(found.matched) == 9
    found.assign()
    np.testing.assert_array_equal(model.dense.bias, state["fc.bias"])


def test_of_several_rules_the_one_counts_that_fits(model):
    """Also the free one: no variable gets two tensors."""
    state = {
        "a.weight": np.full([5, 4], 1, np.float32),
        "b.weight": np.full([4, 4, 3, 2], 2, np.float32),
        "c.weight": np.full([4, 3, 3, 2], 3, np.float32),
        "d.weight": np.full([4, 3, 3, 2], 4, np.float32),
    }
    every = ["blocks/0/0/conv", "blocks/1/0/conv", "dense", "nowhere"]
    rules = [(r"[abcd]", path) for path in every]
    found = _fit(state, model, rules)
    assert {match.name: match.path for match in found.matched} == {
        "a.weight": "dense/kernel",
        "b.weight": "blocks/1/0/conv/kernel",
        "c.weight": "blocks/0/0/conv/kernel",
    }
    assert found.unmatched == ["d.weight"]


def test_names_of_keras_keep_their_layout(model):
    kernel = np.random.RandomState(0).rand(3, 2, 3, 4)
    mean = np.arange(4.0)
    found = _fit({"layer0.conv.kernel": kernel}, model)
    assert found.matched[0].value is kernel
    found = _fit({"layer0.bn.moving_mean": mean}, model)
    assert found.matched[0].path == "blocks/0/0/norm/moving_mean"


def test_paths_fit_as_they_are(model):
    values = {
        name: variable.numpy() + 1
        for name, variable in base.paths(model).items()
    }
    values["dense/weight"] = np.zeros(1, np.float32)
    found = base.fit_paths(values, base.paths(model))
    assert found.unmatched == ["dense/weight"] and not found.missing
    found.assign()
    np.testing.assert_array_equal(model.dense.bias, values["dense/bias"])


def test_table_shows_what_matched_and_what_did_not(model):
    state = _state()
    del state["layer0.bn.bias"]
    state["aux.weight"] = state["head.bias"] = np.zeros(1, np.float32)
    lines = _fit(state, model, dropped=["head"]).table().splitlines()
    assert lines[0].split() == (
        ["name", "in", "the", "file", "shape", "there", "path", "here"]
    )
    columns = [line.split() for line in lines]
    assert ["fc.weight", "[5,", "4]", "dense/kernel"] in columns
    row = next(line for line in lines if line.startswith("fc.bias "))
    assert row.index("[5]") == lines[0].index("shape")
    assert row.index("dense") == lines[0].index("path")
    assert "11 of 12 variables matched" in lines
    assert "in the file, but not in the model: aux.weight" in lines
    assert "in the model, but not in the file: blocks/0/0/norm/beta" in lines
    assert lines[-1] == "1 in the file, but not wanted: head.bias"
