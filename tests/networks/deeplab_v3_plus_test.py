# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tests.networks import recipe
from tfseg.networks import deeplab_v3_plus


def count(variables):
    return sum(int(tf.size(v)) for v in variables)


def test_cps_network_is_the_official_one():
    vectors = golden.load("net_cps")
    network = deeplab_v3_plus.build(num_classes=21)
    assert count(network.trainable_variables) == 40475957
    assert count(network.encoder.trainable_variables) == 23631808
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


def test_torchvision_head_counts_and_dropout():
    network = deeplab_v3_plus.build(
        num_classes=21,
        stem="plain",
        head="torchvision",
        output_stride=8,
        aspp_rates=(1, 2, 3),
        multi_grid=(1, 1, 1),
        dilate_first_block=False,
        batch_norm=dict(frozen=True),
    )
    # Frozen statistics of the encoder: gamma and beta are not trained.
    assert count(network.encoder.trainable_variables) == 23508032 - 53120
    assert count(network.decoder.trainable_variables) == (
        15535104 + 1303648 + 5397
    )
    assert network.encoder.top == "stride8"
    image = np.full([2, 17, 17, 3], 128.0, np.float32)
    assert network(image).shape == (2, 17, 17, 21)
    features = network.encoder(image, training=True)
    inference = network.encoder(image, training=False)
    np.testing.assert_array_equal(features["stride8"], inference["stride8"])
    first = network.decoder(features, training=True)
    second = network.decoder(features, training=True)
    assert (first.numpy() != second.numpy()).any()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(head="aspp"), "`head` must be one of 'cps', 'torchvision'"),
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
