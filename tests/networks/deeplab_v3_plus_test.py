# SPDX-License-Identifier: Apache-2.0
import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tests.networks import layer_table, recipe, state_dicts
from tfseg.networks import deeplab_v3_plus
from tfseg.networks.layers import batch_norm
from tfseg.networks.weights.names import cac, cps, cutmix

MULTI_GRID = [
    [(1, 1)] * 3,
    [(2, 1)] + [(1, 1)] * 3,
    [(2, 1)] + [(1, 1)] * 5,
    [(1, 2), (1, 4), (1, 8)],
]
PLAIN_RESNET_50 = 23508032
DECODER = 15535104 + 1303648 + 5397  # ASPP, the rest, 21 classes.


@functools.lru_cache(maxsize=None)
def cps_network():
    return deeplab_v3_plus.build(num_classes=21)


@functools.lru_cache(maxsize=None)
def cac_network():
    return deeplab_v3_plus.build(num_classes=21, head="cac", stem="plain")


@functools.lru_cache(maxsize=None)
def french_network():
    return deeplab_v3_plus.build(
        num_classes=21,
        depth=101,
        stem="plain",
        head="torchvision",
        output_stride=8,
        aspp_rates=(12, 24, 36),
        multi_grid=(1, 1, 1),
        dilate_first_block=False,
        batch_norm=dict(frozen=True),
    )


def decoder(head):
    """A small one: of fewer rates, on random features."""
    layer = deeplab_v3_plus.Decoder(
        3,
        head=deeplab_v3_plus.HEADS[head],
        top="stride16",
        rates=(2,),
        batch_norm=batch_norm.factory(),
        dilated_conv="auto",
    )
    random = np.random.RandomState(0)
    features = {
        "stride4": random.rand(1, 9, 13, 256).astype(np.float32),
        "stride16": random.rand(1, 3, 4, 64).astype(np.float32),
        "image_size": tf.constant([33, 49]),
    }
    layer(features)
    return layer, features


def test_layer_table_of_cps_and_cac():
    for network in (cps_network(), cac_network()):
        assert layer_table.blocks(network.encoder) == MULTI_GRID
    branches = cps_network().decoder.pooling.branches
    assert layer_table.dilations(branches) == [1, 6, 12, 18]
    branches = cac_network().decoder.pooling.branches
    found = layer_table.dilations([b.convolution for b in branches])
    assert found == [1, 6, 12, 18]
    assert cac_network().encoder.architecture == "resnet50"
    assert cps_network().encoder.architecture == "resnet50_deep"


def test_cps_network_is_the_official_one():
    vectors = golden.load("net_cps")
    network = cps_network()
    assert layer_table.parameters(network) == 40475957
    assert layer_table.parameters(network.encoder) == 23631808
    recipe.assign(network, vectors)
    image = recipe.image(vectors)

    logits = network(image, training=False)
    np.testing.assert_allclose(logits, vectors["logits_eval"], atol=2e-3)
    logits = tf.function(network)(image, training=False)
    np.testing.assert_allclose(logits, vectors["logits_eval"], atol=2e-3)
    features = network.encoder(image, training=False)
    for name, stage in (("stride4", 1), ("stride8", 2), ("stride16", 4)):
        expected = vectors[f"feat_stage{stage}_spatial"]
        found = tf.reduce_mean(features[name], -1)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)

    label = vectors["labels"]
    valid = (label != 255).astype(np.float32)
    with tf.GradientTape() as tape:
        logits = network(image, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            np.where(label == 255, 0, label), logits
        )
        loss = tf.reduce_sum(losses * valid) / valid.sum()
    np.testing.assert_allclose(logits, vectors["logits_train"], atol=2e-2)
    np.testing.assert_allclose(loss, vectors["loss_train"], rtol=1e-4)

    gradients = tape.gradient(loss, network.trainable_variables)
    norms = np.array([np.linalg.norm(g.numpy()) for g in gradients])
    # The pooled branch normalizes over two pixels here. Its gradient is what
    # is left after almost all cancels, so float32 decides about the third
    # digit of it and of all that lies before it (float64 agrees to 0.3 %).
    ratio = norms / vectors["grad_l2_64"]
    np.testing.assert_allclose(ratio, 1, atol=6e-2)
    names = [name for name, _ in json.loads(str(vectors["param_table"]))]
    after = names.index("head.aspp.red_conv.weight")
    np.testing.assert_allclose(ratio[after:], 1, atol=1e-2)

    sums = [v.numpy().sum(dtype=float) for v in network.non_trainable_variables]
    np.testing.assert_allclose(
        sums, vectors["buf_sum_after_64"], rtol=1e-3, atol=1e-3
    )


def test_cac_network_has_the_published_numbers_of_parameters():
    network = cac_network()
    assert layer_table.parameters(network.encoder) == PLAIN_RESNET_50
    assert layer_table.parameters(network.decoder) == DECODER
    assert layer_table.parameters(network.decoder.pooling) == 15535104
    assert network.encoder.top == "stride16"


def test_layer_table_and_numbers_of_parameters_of_french_et_al():
    network = french_network()
    assert layer_table.parameters(network) == 59344309
    assert layer_table.parameters(network.decoder) == DECODER
    assert layer_table.blocks(network.encoder) == [
        [(1, 1)] * 3,
        [(2, 1)] + [(1, 1)] * 3,
        [(1, 1)] + [(1, 2)] * 22,
        [(1, 2), (1, 4), (1, 4)],
    ]
    branches = network.decoder.pooling.branches
    found = layer_table.dilations([b.convolution for b in branches])
    assert found == [1, 12, 24, 36]
    assert network.encoder.top == "stride8"


def test_frozen_trains_only_the_kernels_of_the_encoder():
    network = french_network()
    ranks = [v.shape.rank for v in network.encoder.trainable_variables]
    assert ranks == [4] * 104
    trained = network.decoder.trainable_variables
    assert sum(v.shape.num_elements() for v in trained) == DECODER


def test_names_of_french_et_al():
    part = "deeplab.classifier"
    aspp = f"{part}.aspp"
    low_level = [f"{part}.project.{n}" for n in (0, 1)]
    entries = {
        **state_dicts.plain_resnet("deeplab.backbone.", depth=101),
        **state_dicts.conv_norm(*low_level, 48, 256),
        **aspp_of_torchvision(aspp),
        **state_dicts.conv(f"{part}.classifier.0", 256, 304, 3),
        **state_dicts.norm(f"{part}.classifier.1", 256),
        **state_dicts.conv(f"{part}.classifier.3", 256, 256, 3),
        **state_dicts.norm(f"{part}.classifier.4", 256),
        **state_dicts.conv(f"{part}.classifier.6", 21, 256, bias=True),
    }
    assert state_dicts.count(entries) == 59344309
    found = state_dicts.assert_covered(french_network(), cutmix, entries)
    for name, path in {
        f"{aspp}.convs.3.0.weight": "pooling/branches/3/convolution/kernel",
        f"{aspp}.convs.1.1.bias": "pooling/branches/1/batch_norm/beta",
        f"{aspp}.project.1.weight": "pooling/reduce/batch_norm/gamma",
        f"{part}.classifier.1.bias": "merge/0/batch_norm/beta",
        f"{part}.classifier.4.bias": "merge/1/batch_norm/beta",
    }.items():
        assert found[name] == f"decoder/{path}"


def aspp_of_torchvision(prefix):
    """Entries of torchvision's ASPP."""
    entries = {}
    for n in range(5):
        # The pooled branch begins with the pooling.
        names = [f"{prefix}.convs.{n}.{m + (n == 4)}" for m in (0, 1)]
        size = 3 if n in (1, 2, 3) else 1
        entries.update(state_dicts.conv_norm(*names, 256, 2048, size))
    names = [f"{prefix}.project.{m}" for m in (0, 1)]
    return {**entries, **state_dicts.conv_norm(*names, 256, 1280)}


def test_names_of_the_checkpoint_of_cps():
    entries = state_dicts.golden(golden.load("net_cps"))
    first, second = (
        {f"{branch}.{name}": shape for name, shape in entries.items()}
        for branch in ("branch1", "branch2")
    )
    network = cps_network()
    found = state_dicts.assert_covered(
        network, cps, {**second, **first}, unwanted=second
    )
    state_dicts.assert_in_order(network, found)


def test_the_second_branch_of_cps_has_the_same_places():
    first, second = (
        [(pattern.replace(name, "", 1), path) for pattern, path in rules]
        for name, rules in (
            ("branch1", cps.RULES),
            ("branch2", cps.branch("branch2")),
        )
    )
    assert first == second


def test_names_of_the_checkpoint_of_cac():
    part = "encoder.decoder"
    entries = state_dicts.plain_resnet("encoder.backbone.")
    for n in range(4):
        names = [f"encoder.aspp.aspp{n + 1}.{m}" for m in ("atrous_conv", "bn")]
        size = 3 if n else 1
        entries.update(state_dicts.conv_norm(*names, 256, 2048, size))
    for names, *shape in (
        (
            [
                "encoder.aspp.global_avg_pool.1",
                "encoder.aspp.global_avg_pool.2",
            ],
            256,
            2048,
        ),
        (["encoder.aspp.conv1", "encoder.aspp.bn1"], 256, 1280),
        ([f"{part}.conv1", f"{part}.bn1"], 48, 256),
        ([f"{part}.last_conv.0", f"{part}.last_conv.1"], 256, 304, 3),
        ([f"{part}.last_conv.4", f"{part}.last_conv.5"], 256, 256, 3),
    ):
        entries.update(state_dicts.conv_norm(*names, *shape))
    entries.update(state_dicts.conv("classifier.1", 21, 256, bias=True))
    projector = {
        **state_dicts.conv("project.0", 256, 256, bias=True),
        **state_dicts.conv("project.2", 128, 256, bias=True),
    }
    entries.update(projector)
    assert state_dicts.count(entries) == 40450869
    found = state_dicts.assert_covered(
        cac_network(), cac, entries, unwanted=projector
    )
    state_dicts.assert_in_order(cac_network(), found)


@pytest.mark.parametrize(
    "head, low_level", [("cps", 256), ("cac", 256), ("torchvision", 0)]
)
def test_order_in_which_the_features_are_joined(head, low_level):
    layer, features = decoder(head)
    kernel = layer.merge[0].convolution.kernel
    cut = np.ones([304, 1])
    cut[low_level : low_level + 48] = 0
    kernel.assign(kernel * cut)
    expected = layer.embed(features)
    assert expected.shape == (1, 9, 13, 256)
    changed = {**features, "stride4": features["stride4"] + 1}
    np.testing.assert_array_equal(layer.embed(changed), expected)
    changed = {**features, "stride16": features["stride16"] * 2}
    assert np.abs(layer.embed(changed) - expected).max() > 1e-3


@pytest.mark.parametrize("head", ["cps", "cac", "torchvision"])
def test_corners_are_aligned_but_in_torchvision(head):
    layer, _ = decoder(head)
    embedding = np.random.RandomState(0).rand(1, 3, 4, 256).astype(np.float32)
    small = layer.logits(embedding).numpy()
    found = layer.classify(embedding, (5, 7)).numpy()
    assert found.shape == (1, 5, 7, 3)
    middle = (small[:, 0, 0] + small[:, 0, 1]) / 2
    aligned = np.allclose(found[:, 0, 1], middle, atol=1e-5)
    assert aligned == (head != "torchvision")


def test_cac_drops_between_the_convolutions_of_the_decoder():
    layer, features = decoder("cac")
    layer.pooling.dropout.rate = 0.0
    layer.merge = [layer.merge[0], lambda x, training: x]
    found = layer.embed(features, training=True).numpy()
    layer.merge_dropout.rate = 0.0
    complete = layer.embed(features, training=True).numpy()
    kept = found > 0
    np.testing.assert_allclose(kept[complete > 0].mean(), 0.5, atol=0.02)
    np.testing.assert_allclose(found[kept], 2 * complete[kept], rtol=1e-6)


def test_cac_drops_before_the_classifier():
    layer, _ = decoder("cac")
    layer.classifier.set_weights([np.ones([1, 1, 256, 3]), np.zeros(3)])
    embedding = tf.ones([1, 40, 40, 256])
    logits = layer.logits(embedding, training=True).numpy()
    # Of 256 ones: a whole number of them is left, each divided by 0.9.
    kept = logits * 0.9
    np.testing.assert_allclose(kept, np.rint(kept), atol=1e-2)
    np.testing.assert_allclose(kept.mean(), 0.9 * 256, rtol=0.01)
    assert kept.std() > 1
    np.testing.assert_allclose(layer.logits(embedding), 256, rtol=1e-5)


@pytest.mark.parametrize("head", ["cps", "torchvision"])
def test_other_heads_drop_nothing_after_the_pooling(head):
    layer, features = decoder(head)
    if head == "torchvision":
        layer.pooling.dropout.rate = 0.0
    first, second = (layer(features, training=True) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            dict(head="aspp"),
            "`head` must be one of 'cps', 'cac', 'torchvision'",
        ),
        (dict(depth=18), "`depth` must be one of 50, 101, 152.*depth=18"),
        (dict(stem="v1c"), "`stem` must be one of 'plain', 'deep'"),
        (dict(output_stride=4), "`output_stride` must be one of 8, 16, 32"),
        (dict(aspp_rates=(0, 6)), "`aspp_rates` must be"),
        (dict(multi_grid=(1, 2)), "`multi_grid` must be three"),
        (dict(batch_norm=dict(momentum=1.0)), "`batch_norm.momentum` must be"),
        (dict(batch_norm=dict(epsilon=0.0)), "`batch_norm.epsilon` must be"),
        (dict(num_classes=1), "Received: num_classes=1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        deeplab_v3_plus.build(**{"num_classes": 2, **options})
