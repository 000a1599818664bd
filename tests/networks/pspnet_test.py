# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.networks import layer_table, state_dicts
from tfseg.networks import pspnet
from tfseg.networks.layers import batch_norm, resize
from tfseg.networks.weights.names import cac, cutmix


@functools.lru_cache(maxsize=None)
def shared():
    return pspnet.build(num_classes=21)


def decoder(head, bins=(1, 2, 3, 6)):
    """A decoder of its own, and features for it."""
    layer = pspnet.Decoder(
        3,
        head=pspnet.HEADS[head],
        encoder=shared().encoder,
        bins=bins,
        batch_norm=batch_norm.factory(),
    )
    x = np.random.RandomState(0).rand(2, 3, 4, 2048).astype(np.float32)
    features = {"stride8": x, "image_size": tf.constant([17, 25])}
    layer(features)
    return layer, features


@functools.lru_cache(maxsize=None)
def shared_decoder(head):
    """For the tests that do not change it."""
    return decoder(head)


def test_numbers_of_parameters():
    network = shared()
    assert layer_table.parameters(network.encoder) == 23631808
    assert layer_table.parameters(network.decoder) == 23073792 + 10773
    assert network.encoder.architecture == "resnet50_deep"
    assert network.encoder.top == "stride8"


def test_layer_table():
    assert layer_table.blocks(shared().encoder) == [
        [(1, 1)] * 3,
        [(2, 1)] + [(1, 1)] * 3,
        [(1, 1)] + [(1, 2)] * 5,
        [(1, 2), (1, 4), (1, 4)],
    ]


@pytest.mark.parametrize(
    "head, align_corners", [("cac", True), ("csail", False)]
)
def test_logits_are_resized_as_published(head, align_corners):
    layer, features = shared_decoder(head)
    embedding = layer.embed(features)
    assert embedding.shape == (2, 3, 4, 512) and np.min(embedding) >= 0
    small = layer.logits(embedding)
    np.testing.assert_allclose(
        layer.classify(embedding, (17, 25)),
        resize.bilinear(small, (17, 25), align_corners=align_corners),
    )


def test_cac_has_no_dropout_and_csail_drops_channels():
    embedding = tf.ones([4, 3, 4, 512])
    layer, _ = shared_decoder("cac")
    np.testing.assert_array_equal(
        layer.logits(embedding, training=True),
        layer.logits(embedding),
    )
    layer, features = decoder("csail")
    layer.classifier.set_weights([np.ones([1, 1, 512, 3]), np.zeros([3])])
    logits = layer.logits(embedding, training=True).numpy()
    np.testing.assert_allclose(logits, logits[:, :1, :1] * np.ones([3, 4, 1]))
    # Of 512 ones: a whole number of them is left, each divided by 0.9.
    kept = logits * 0.9
    np.testing.assert_allclose(kept, np.rint(kept), atol=1e-2)
    np.testing.assert_allclose(kept.mean(), 0.9 * 512, rtol=0.05)
    assert len(np.unique(kept)) > 1
    # The dropout belongs to the classifier.
    first, second = (layer.embed(features, training=True) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_initializers():
    for head, scale in (("cac", 1 / 3), ("csail", 2)):
        layer, _ = shared_decoder(head)
        for kernel, fan_in in (
            (layer.pyramid.branches[3].convolution.kernel, 2048),
            (layer.pyramid.merge.kernel, 9 * 4096),
            (layer.classifier.kernel, 512),
        ):
            std = np.sqrt(scale / fan_in)
            np.testing.assert_allclose(np.std(kernel), std, rtol=0.06)
            largest = np.abs(kernel).max() / std
            assert largest > 2 if head == "csail" else largest < 1.733
        assert np.abs(layer.classifier.bias).max() <= 512**-0.5


def test_bins_share_the_channels():
    layer, features = decoder("cac", bins=(1, 8))
    widths = [branch.convolution.filters for branch in layer.pyramid.branches]
    assert widths == [1024, 1024]
    assert layer(features).shape == (2, 17, 25, 3)


def test_names_of_the_official_checkpoints():
    entries = {
        **state_dicts.deep_stem("encoder.base.0.0."),
        **state_dicts.stages([f"encoder.base.{n}" for n in (1, 2, 3, 4)], 128),
        **state_dicts.pyramid("encoder.psp.stages", "encoder.psp.bottleneck"),
        **state_dicts.conv("classifier", 21, 512, bias=True),
    }
    projector = {
        **state_dicts.conv("project.0", 512, 512, bias=True),
        **state_dicts.conv("project.2", 128, 512, bias=True),
    }
    kept = state_dicts.assert_covered(
        shared(), cac, {**entries, **projector}, unwanted=projector
    )
    state_dicts.assert_in_order(shared(), kept)
    entries = {
        **state_dicts.deep_stem("encoder."),
        **state_dicts.stages([f"encoder.layer{n}" for n in (1, 2, 3, 4)], 128),
        **state_dicts.pyramid("decoder.ppm", "decoder.conv_last"),
        **state_dicts.conv("decoder.conv_last.4", 21, 512, bias=True),
    }
    kept = state_dicts.assert_covered(shared(), cutmix, entries)
    state_dicts.assert_in_order(shared(), kept)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(head="ppm"), "`head` must be one of 'cac', 'csail'"),
        (dict(depth=18), "`depth` must be one of 50, 101, 152.*depth=18"),
        (dict(bins=()), "`bins` must be"),
        (dict(bins=(0, 2)), r"`bins` must be.*bins=\(0, 2\)"),
        (dict(num_classes=1), "Received: num_classes=1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        pspnet.build(**{"num_classes": 2, **options})
