# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfseg import export, strategy
from tfseg.networks import deeplab_v3_plus_light

SMALL = "mobilenet_v3_small"


@functools.lru_cache(maxsize=None)
def built():
    keras.utils.set_random_seed(0)
    return deeplab_v3_plus_light.build(num_classes=21)


def images(*shape):
    return np.random.RandomState(0).uniform(0, 255, shape).astype(np.float32)


def count(variables):
    return sum(int(tf.size(v)) for v in variables)


def test_number_of_parameters():
    # ASPP: 1x1 and three 3x3 on 576 channels, BatchNorm over 4 * 256, pooled
    # 1x1 with BatchNorm, two 1x1 to 256, BatchNorm.
    aspp = 576 * 256 * (1 + 3 * 9) + 2 * 1024 + 576 * 256 + 2 * 256
    aspp += 1024 * 256 + 256 * 256 + 2 * 256
    # Low level: 16 channels to 48, then 304 -> 256 -> 256.
    merge = 16 * 48 + 2 * 48 + 9 * (304 + 256) * 256 + 4 * 256
    network = built()
    assert count(network.decoder.trainable_variables) == (
        aspp + merge + 256 * 21 + 21
    )
    assert count(network.trainable_variables) == 6831509


def norms(layer):
    """(momentum, epsilon) of the BatchNorm layers below."""
    return {
        (n.momentum, n.epsilon)
        for n in layer.submodules
        if isinstance(n, keras.layers.BatchNormalization)
    }


def test_batch_norm_and_weights_of_the_encoder(tmp_path):
    network = built()
    assert norms(network.encoder) == norms(network.decoder) == {(0.99, 1e-3)}
    assert network.encoder.pretrained_variables == []
    path = str(tmp_path / "encoder.weights.h5")
    network.encoder.save_weights(path)
    other = deeplab_v3_plus_light.build(
        num_classes=3,
        weights=path,
        batch_norm=dict(momentum=0.8, frozen=True),
    )
    assert norms(other.encoder) == norms(other.decoder) == {(0.8, 1e-3)}
    names = [v.name for v in other.encoder.trainable_variables]
    assert names and not any("gamma" in name for name in names)
    assert any("gamma" in v.name for v in other.decoder.trainable_variables)
    image = images(1, 33, 49, 3)
    np.testing.assert_array_equal(
        network.encoder(image)["stride32"], other.encoder(image)["stride32"]
    )
    found = other.encoder.pretrained_variables
    assert {v.ref() for v in found} == {
        v.ref() for v in other.encoder.variables
    }


def test_rates_and_head_are_the_decoders():
    rates = [
        branch.dilation_rate[0] for branch in built().decoder.pooling.branches
    ]
    assert rates == [1, 3, 6, 9]
    network = deeplab_v3_plus_light.build(
        num_classes=2, head="torchvision", aspp_rates=(2,), encoder="mit_b0"
    )
    assert not network.decoder.align_corners
    branches = network.decoder.pooling.branches
    assert branches[1].convolution.dilation_rate == (2, 2)
    assert network(images(2, 17, 33, 3), training=True).shape == (2, 17, 33, 2)


def test_mirrored_step_and_restored_checkpoint(tmp_path):
    two = strategy.build("mirrored", replicas=2)
    with two.scope():
        network = deeplab_v3_plus_light.build(num_classes=21)

    @tf.function
    def step(image):
        return network(image, training=True)

    image = tf.constant(images(2, 33, 49, 3))
    results = two.experimental_local_results(two.run(step, args=(image,)))
    assert [r.shape for r in results] == [(2, 33, 49, 21)] * 2
    path = tf.train.Checkpoint(network=network).save(str(tmp_path / "c"))
    checkpoint = tf.train.Checkpoint(network=built())
    checkpoint.restore(path).assert_consumed()
    np.testing.assert_allclose(
        built()(image), network(image), rtol=1e-4, atol=1e-5
    )


def test_exported_is_the_network(tmp_path):
    network = built()
    classes = tmp_path / "classes.json"
    classes.write_text("{}")
    module = export.Deployed(network, str(classes))
    path = str(tmp_path / "saved")
    tf.saved_model.save(
        module, path, signatures={"serving_default": module.from_images}
    )
    serve = tf.saved_model.load(path).signatures["serving_default"]
    for size in ((33, 49), (1, 1)):
        image = images(1, *size, 3).astype(np.uint8)
        found = serve(images=tf.constant(image))["probabilities"]
        expected = tf.nn.softmax(network(image.astype(np.float32)))
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(encoder="resnet50"), f"`encoder` must be one of '{SMALL}', "),
        (dict(head="aspp"), "`head` must be one of 'cps', 'cac'"),
        (dict(aspp_rates=()), "`aspp_rates` must be dilations"),
        (dict(normalization="bgr"), "`normalization` must be one of"),
        (dict(batch_norm=dict(decay=0.9)), "config.network.batch_norm.decay"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        deeplab_v3_plus_light.build(num_classes=2, **options)
