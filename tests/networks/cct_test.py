# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import tensorflow as tf

from tests import golden
from tests.networks import layer_table, recipe, state_dicts
from tfseg.networks import cct
from tfseg.networks.weights.names import cct as names


@functools.lru_cache(maxsize=None)
def shared():
    """A network that only `official` changes."""
    return cct.build(num_classes=21)


def official(vectors):
    recipe.assign(shared(), vectors)
    return shared()


def test_numbers_of_parameters():
    network = shared()
    encoder = network.encoder
    assert layer_table.parameters(encoder.backbone) == 23631808
    assert layer_table.parameters(encoder.pyramid) == 23073792
    assert layer_table.parameters(network.decoder) == 16296
    assert encoder.feature_channels == {"stride4": 256, "stride8": 512}
    assert encoder.architecture == "resnet50_deep"
    assert (encoder.top, encoder.output_stride) == ("stride8", 8)


def test_layer_table():
    stages = layer_table.blocks(shared().encoder)
    assert stages == [
        [(1, 1)] * 3,
        [(2, 1)] + [(1, 1)] * 3,
        [(1, 1)] + [(1, 2)] * 5,
        [(1, 2), (1, 4), (1, 4)],
    ]


def test_inference_is_the_official_one():
    vectors = golden.load("net_cct")
    network = official(vectors)
    image = recipe.image(vectors)
    features = network.encoder(image, training=False)
    for name, layer in (("stride4", "stage1"), ("stride8", "psp")):
        for kind, axes in (("spatial", -1), ("channel", (1, 2))):
            expected = vectors[f"feat_{layer}_{kind}"]
            found = tf.reduce_mean(features[name], axes)
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    for call in (network, tf.function(network)):
        logits = call(image, training=False)
        np.testing.assert_allclose(logits, vectors["logits_eval"], atol=2e-3)
    decoder = network.decoder
    z = decoder.embed(features)
    assert z is features["stride8"] and np.min(z) >= 0
    small = decoder.logits(z)
    np.testing.assert_allclose(small, vectors["logits_eval"], atol=2e-3)
    assert np.min(small) >= 0


def test_training_is_the_official_one():
    vectors = golden.load("net_cct")
    network = official(vectors)
    image, label = recipe.image(vectors), vectors["labels"]
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
    # The pooled branch of one bin normalizes over two pixels.
    np.testing.assert_allclose(norms / vectors["grad_l2_64"], 1, atol=2e-2)
    sums = [v.numpy().sum(dtype=float) for v in network.non_trainable_variables]
    np.testing.assert_allclose(
        sums, vectors["buf_sum_after_64"], rtol=1e-3, atol=1e-3
    )


def test_decoder_is_the_official_one():
    vectors = golden.load("pixelshuffle_decoder")
    layers = ["upsample.0.weight"] + [
        f"upsample.{n}.conv.{word}"
        for n in (1, 2, 3)
        for word in ("weight", "bias")
    ]
    decoder = cct.Decoder(5, "stride8", relu=True)
    z = tf.constant(vectors["z"])
    decoder.logits(z)
    for name, variable in zip(layers, decoder.trainable_variables):
        variable.assign(vectors[f"p.{name}"])
    with tf.GradientTape() as tape:
        tape.watch(z)
        logits = decoder.logits(z)
        total = tf.reduce_sum(logits * vectors["g"])
    np.testing.assert_allclose(logits, vectors["out"], atol=1e-5)
    gradients = tape.gradient(total, [z] + decoder.trainable_variables)
    expected = [vectors["grad_z"]] + [vectors[f"gp.{name}"] for name in layers]
    for gradient, value in zip(gradients, expected):
        scale = np.abs(value).max()
        np.testing.assert_allclose(gradient, value, atol=1e-4 * scale)


def test_logits_are_resized_where_the_size_is_no_multiple_of_8():
    decoder = cct.Decoder(3, "stride8", relu=False)
    z = np.random.RandomState(0).randn(1, 3, 2, 8).astype(np.float32)
    small = decoder.logits(z)
    assert small.shape == (1, 24, 16, 3)
    np.testing.assert_array_equal(decoder.classify(z, (24, 16)), small)
    found = decoder.classify(z, (17, 9)).numpy()
    assert found.shape == (1, 17, 9, 3)
    # Corners aligned: they are the corners, and 23 / 16 rows per row.
    np.testing.assert_array_equal(
        found[:, ::16, ::8], small.numpy()[:, ::23, ::15]
    )


def test_without_relu_the_decoder_is_linear():
    z = np.random.RandomState(0).rand(1, 3, 2, 8).astype(np.float32)
    for relu, lowest in ((True, 0), (False, -np.inf)):
        decoder = cct.Decoder(3, "stride8", relu)
        logits = decoder.logits(z).numpy()
        assert logits.min() >= lowest
    assert logits.min() < 0
    zero = decoder.logits(np.zeros_like(z)).numpy()
    twice = decoder.logits(2 * z).numpy()
    np.testing.assert_allclose(twice - zero, 2 * (logits - zero), atol=1e-4)


def test_only_the_resnet_is_published():
    encoder = shared().encoder
    assert encoder.backbone is encoder.resnet
    assert encoder.pretrained_variables == []
    encoder.backbone.pretrained = True
    assert len(encoder.pretrained_variables) == len(encoder.resnet.variables)
    encoder.backbone.pretrained = False


def test_frozen_is_for_the_resnet_alone():
    encoder = cct.build(num_classes=2, batch_norm=dict(frozen=True)).encoder
    # 53 convolutions with BatchNorm in the ResNet and two more in the stem.
    assert len(encoder.resnet.trainable_variables) == 55
    assert len(encoder.pyramid.trainable_variables) == 5 * 3
    for kernel, fan_in in (
        (encoder.pyramid.branches[0].convolution.kernel, 2048),
        (encoder.pyramid.merge.kernel, 9 * 4096),
    ):
        # And the pyramid starts as in PyTorch.
        bound = fan_in**-0.5
        assert np.abs(kernel).max() < 1.001 * bound
        std = bound / np.sqrt(3)
        np.testing.assert_allclose(np.std(kernel), std, rtol=0.01)


def test_decoder_starts_as_published():
    decoder = shared().new_decoder()
    assert not decoder.classifier.use_bias
    np.testing.assert_allclose(
        np.std(decoder.classifier.kernel), np.sqrt(2 / 512), rtol=0.1
    )


def test_names_of_the_official_checkpoint():
    entries = state_dicts.golden(golden.load("net_cct"))
    kept = state_dicts.assert_covered(shared(), names, entries)
    state_dicts.assert_in_order(shared(), kept)
    auxiliary = {
        name.replace("main_decoder", "aux_decoders.29"): shape
        for name, shape in entries.items()
        if name.startswith("main_decoder")
    }
    state_dicts.assert_covered(
        shared(), names, {**entries, **auxiliary}, unwanted=auxiliary
    )
