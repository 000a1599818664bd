# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from configs import networks as configured
from tests.networks.leaves import images
from tfseg import config as config_lib
from tfseg import inference, lookup, runs
from tfseg.networks import base, cam, fcn
from tfseg.networks.layers import batch_norm

LIGHT = {"name": "deeplab_v3_plus_light", "encoder": "mobilenet_v3_small"}


@functools.lru_cache(maxsize=None)
def shared():
    return cam.build(num_classes=4, backbone={"name": "fcn", "width": 4})


def test_encoder_is_that_of_the_other_network():
    keras.utils.set_random_seed(0)
    other = fcn.build(num_classes=4, width=5)
    keras.utils.set_random_seed(0)
    network = cam.build(num_classes=4, backbone={"name": "fcn", "width": 5})
    assert isinstance(network.encoder, fcn.Encoder)
    for a, b in zip(network.encoder.variables, other.encoder.variables):
        np.testing.assert_array_equal(a, b)
    # Of the other network nothing else is left.
    kernel = network.decoder.classifier.kernel
    assert kernel.shape == (1, 1, 20, 3)
    assert [v is kernel for v in network.decoder.variables] == [True]
    count = len(other.encoder.variables) + 1
    assert len(network.variables) == count
    width = cam.build(num_classes=2).encoder.feature_channels["stride2"]
    assert width == lookup.options(fcn.build)["width"].default


def test_mean_of_the_maps_is_the_score_of_the_pooled_feature():
    network = shared()
    features = network.encoder(images(2, 33, 47, 3))
    top = features[network.encoder.top].numpy().astype(np.float64)
    kernel = network.decoder.classifier.kernel.numpy()[0, 0]
    logits = network.decoder.logits(network.decoder.embed(features))
    scores = tf.reduce_mean(logits, [1, 2]).numpy()
    np.testing.assert_array_equal(scores[:, 0], 0)
    expected = top.mean((1, 2)) @ kernel
    np.testing.assert_allclose(scores[:, 1:], expected, rtol=1e-4, atol=1e-5)


def test_logits_are_the_maps_between_pixel_centers():
    network = shared()
    image = images(1, 33, 24, 3)
    features = network.encoder(image)
    small = network.decoder.logits(network.decoder.embed(features)).numpy()
    logits = network(image).numpy()
    np.testing.assert_array_equal(logits[..., 0], 0)
    x = small[0]
    for axis, size in enumerate(image.shape[1:3]):
        length = x.shape[axis]
        places = (np.arange(size) + 0.5) * length / size - 0.5
        x = np.apply_along_axis(
            lambda line: np.interp(places, np.arange(len(line)), line), axis, x
        )
    np.testing.assert_allclose(logits[0], x, atol=1e-4 * np.abs(x).max())


def test_background_is_where_no_map_is_positive():
    network = shared()
    predict = inference.Predictor(network, flip=True, scales=(1.0, 0.5))
    prob = predict(images(1, 24, 32, 3)).numpy()
    assert prob.shape == (1, 24, 32, 4)
    np.testing.assert_allclose(prob.sum(-1), 1, rtol=1e-5)
    logits = network(images(1, 24, 32, 3)).numpy()
    background = logits.argmax(-1) == 0
    np.testing.assert_array_equal(background, (logits[..., 1:] <= 0).all(-1))


def test_published_weights_of_the_encoder_stay_marked(monkeypatch):
    loaded = []
    monkeypatch.setattr(
        base.pretrained, "load", lambda *arguments: loaded.append(arguments)
    )
    network = cam.build(num_classes=4, backbone={**LIGHT, "weights": "x.h5"})
    assert loaded == [(network.encoder.backbone, "x.h5")]
    found = [v.ref() for v in network.encoder.pretrained_variables]
    assert found == [v.ref() for v in network.encoder.variables]
    assert {v.ref() for v in network.variables} - set(found) == {
        network.decoder.classifier.kernel.ref()
    }
    network.new_decoder()
    assert len(loaded) == 1
    assert shared().encoder.pretrained_variables == []


def test_a_config_holds_the_other_network():
    config = config_lib.base_config()
    config.network = configured.get("cam_fcn")
    config.network.backbone.width = 3
    network = runs.build_network(config, num_classes=5)
    assert network.encoder.feature_channels["stride2"] == 3
    assert network.decoder.classifier.filters == 4
    config.network.backbone.width = 0
    with pytest.raises(ValueError, match="Received: width=0"):
        runs.build_network(config, num_classes=5)
    del config.network.backbone
    assert runs.build_network(config, num_classes=5).num_classes == 5


@pytest.mark.parametrize("name", ["cam_fcn", "cam_resnet50"])
def test_a_configuration_names_every_option_of_the_other_network(name):
    options = configured.get(name)["backbone"]
    leaf = lookup.module("networks", options.pop("name"))
    assert set(options) | {"num_classes"} == set(lookup.options(leaf.build))
    norm = set(lookup.options(batch_norm.factory))
    assert set(options["batch_norm"]) == norm


@pytest.mark.parametrize(
    "backbone, message",
    [
        ({"name": "fcm"}, "Did you mean.*Available: cam, cct"),
        ({"name": "fcn", "widht": 4}, "network.backbone.widht`.*mean 'width'"),
        ({"width": 4}, "backbone` must be a network's name.*{'width': 4}"),
        ({}, "backbone` must be a network's name and options"),
        ("fcn", "for example {'name': 'fcn'}. Received: 'fcn'"),
        ({"name": "fcn", "num_classes": 3}, "but for the number of classes"),
        (
            {"name": "fcn", "batch_norm": {"momentun": 0.9}},
            "batch_norm.momentun`.*Did you mean 'momentum'",
        ),
    ],
)
def test_a_bad_network_or_option_is_named(backbone, message):
    with pytest.raises(ValueError, match=message):
        cam.build(num_classes=4, backbone=backbone)
