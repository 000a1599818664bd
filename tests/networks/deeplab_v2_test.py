# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.networks import layer_table, state_dicts
from tfseg.networks import deeplab_v2
from tfseg.networks.weights.names import cutmix

RATES = (6, 12, 18, 24)


@functools.lru_cache(maxsize=None)
def shared():
    return deeplab_v2.build(num_classes=21)


def classifiers(used=4, dilated_conv="auto", channels=5, rates=RATES):
    layer = deeplab_v2.ParallelClassifiers(3, rates, used, dilated_conv)
    layer.build([None, None, None, channels])
    random = np.random.RandomState(0)
    for variable in layer.trainable_variables:
        variable.assign(random.randn(*variable.shape))
    return layer


def oracle(x, layer, used):
    """The convolutions one after the other, by TensorFlow's own op."""
    total = 0
    for branch, rate in zip(layer.branches[:used], layer.rates):
        kernel = branch.kernel.numpy().astype(np.float64)
        maps = tf.nn.conv2d(np.float64(x), kernel, 1, "SAME", dilations=rate)
        total += maps + branch.bias.numpy()
    return total


def test_numbers_of_parameters():
    network = shared()
    assert layer_table.parameters(network.encoder) == 42500160
    assert layer_table.parameters(network.decoder) == 1548372
    used = network.decoder.classifier.branches[:2]
    assert sum(map(layer_table.parameters, used)) == 774186
    assert network.encoder.architecture == "resnet101"


def test_layer_table():
    encoder = shared().encoder
    assert layer_table.blocks(encoder) == [
        [(1, 1)] * 3,
        [(2, 1)] + [(1, 1)] * 3,
        [(1, 2)] * 23,
        [(1, 4)] * 3,
    ]
    # The stride is on the first convolution.
    first = encoder.stages[1][0]
    assert first.reduce.convolution.strides == (2, 2)
    assert first.spatial.convolution.strides == (1, 1)
    branches = shared().decoder.classifier.branches
    assert layer_table.dilations(branches) == list(RATES)


def test_sizes_are_rounded_up():
    # 32 -> 16, then PyTorch's pooling gives 8 or, rounded up, 9.
    features = shared().encoder(np.zeros([1, 32, 33, 3], np.float32))
    assert features["stride4"].shape == (1, 9, 9, 256)
    assert features["stride8"].shape == (1, 5, 5, 2048)
    assert shared().decoder.embed(features) is features["stride8"]


@pytest.mark.parametrize("used", [2, 4])
@pytest.mark.parametrize("dilated_conv", ["auto", "native"])
def test_branches_are_summed(dilated_conv, used):
    layer = classifiers(used, dilated_conv)
    signature = [tf.TensorSpec([None, None, None, 5])]
    traced = tf.function(layer, input_signature=signature)
    for size in [(1, 1), (7, 13), (30, 26)]:
        x = np.random.RandomState(1).randn(2, *size, 5).astype(np.float32)
        expected = oracle(x, layer, used)
        for call in (layer, traced):
            np.testing.assert_allclose(call(x), expected, atol=1e-4)


def test_gradients_are_those_of_the_convolutions():
    layer = classifiers(used=2)
    x = tf.constant(np.random.RandomState(1).randn(2, 9, 14, 5), tf.float32)
    results = []
    for call in (layer, lambda x: oracle_float32(x, layer)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(call(x)))
        results.append(tape.gradient(loss, [x] + layer.trainable_variables))
    for found, expected in zip(*results):
        if expected is None:
            assert found is None
        else:
            np.testing.assert_allclose(found, expected, atol=1e-3)
    # The official slip: two branches are there and never learn.
    assert sum(gradient is None for gradient in results[0]) == 4


def oracle_float32(x, layer):
    return sum(
        tf.nn.conv2d(x, branch.kernel, 1, "SAME", dilations=rate) + branch.bias
        for branch, rate in zip(layer.branches[:2], layer.rates)
    )


def test_the_first_two_branches_may_be_all_that_count():
    options = dict(num_classes=2, depth=50, classifier_branches="first_two")
    classifier = deeplab_v2.build(**options).decoder.classifier
    assert classifier.used == 2 and len(classifier.branches) == 4
    assert shared().decoder.classifier.used == 4


def test_initializers():
    for branch in shared().decoder.classifier.branches:
        np.testing.assert_allclose(np.std(branch.kernel), 0.01, rtol=0.01)
        assert np.abs(branch.kernel).max() > 0.03
        assert 0 < np.abs(branch.bias).max() <= (9 * 2048) ** -0.5
    first, second = shared().decoder.classifier.branches[:2]
    assert (first.kernel.numpy() != second.kernel.numpy()).any()


def test_names_of_the_official_checkpoint():
    entries = state_dicts.plain_resnet("", depth=101)
    for n in range(4):
        name = f"layer5.conv2d_list.{n}"
        entries.update(state_dicts.conv(name, 21, 2048, 3, bias=True))
    assert state_dicts.count(entries) == 42500160 + 1548372
    kept = state_dicts.assert_covered(shared(), cutmix, entries)
    state_dicts.assert_in_order(shared(), kept)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(depth=18), "`depth` must be one of 50, 101, 152.*depth=18"),
        (dict(aspp_rates=()), "`aspp_rates` must be"),
        (
            dict(classifier_branches=2),
            "`classifier_branches` must be one of 'all', 'first_two'",
        ),
        (dict(num_classes=1), "Received: num_classes=1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        deeplab_v2.build(**{"num_classes": 2, **options})
