# SPDX-License-Identifier: Apache-2.0
"""Files as the official codes write them, of one number for each tensor."""

import functools
import logging

import numpy as np
import pytest

from tests.networks import state_dicts
from tests.networks.weights import torch_files
from tfseg.networks import cct, deeplab_v3_plus, fcn
from tfseg.networks.encoders import resnet
from tfseg.networks.weights import files, keras_applications, pretrained
from tfseg.networks.weights.names import base

TORCHVISION = {
    **state_dicts.plain_resnet(""),
    "fc.weight": [1000, 2048],
    "fc.bias": [1000],
}
LAYERS = [f"layer{n}" for n in (1, 2, 3, 4)]
DEEP = {**state_dicts.deep_stem(""), **state_dicts.stages(LAYERS, 128)}


def _prefixed(prefix, entries):
    return {f"{prefix}{name}": shape for name, shape in entries.items()}


@functools.lru_cache(maxsize=None)
def network():
    """Of CCT; as all others here it is filled before it is looked at."""
    return cct.build(num_classes=21)


@functools.lru_cache(maxsize=None)
def encoder(stem):
    return (
        network().encoder.resnet
        if stem == "deep"
        else resnet.build(stem="plain")
    )


def _write(path, entries, **checkpoint):
    """The k-th tensor is k everywhere; a number of it is in the file."""
    weights = {
        name: torch_files.Tensor(
            np.full([1], index, np.float32), 0, tuple(shape), (0,) * len(shape)
        )
        for index, (name, shape) in enumerate(entries.items())
    }
    torch_files.save(path, {"state_dict": weights, **checkpoint})
    return str(path)


def _assert_values(model, entries, expected):
    """`expected`: {path: name in the file}."""
    index = {name: k for k, name in enumerate(entries)}
    variables = base.paths(model)
    for path, name in expected.items():
        assert (variables[path].numpy() == index[name]).all(), path
    numbers = {v.numpy().ravel()[0] for v in variables.values()}
    assert len(numbers) == len(variables)


def test_file_of_torchvision(tmp_path):
    path = _write(tmp_path / "resnet50.pth", TORCHVISION, epoch=1)
    pretrained.load(encoder("plain"), path)
    _assert_values(
        encoder("plain"),
        TORCHVISION,
        {
            "stem/0/convolution/kernel": "conv1.weight",
            "stem/0/batch_norm/gamma": "bn1.weight",
            "stages/3/2/expand/batch_norm/moving_variance": (
                "layer4.2.bn3.running_var"
            ),
        },
    )


CPS_HEAD = {
    **state_dicts.conv("head.aspp.red_conv", 256, 1024),
    **state_dicts.conv("classifier", 21, 256, bias=True),
}
CPS = {
    f"branch{n}.{name}": shape
    for n in (1, 2)
    for name, shape in {**_prefixed("backbone.", DEEP), **CPS_HEAD}.items()
}
CCT = {
    **_prefixed("encoder.base.0.0.", state_dicts.deep_stem("")),
    **state_dicts.stages([f"encoder.base.{n}" for n in (1, 2, 3, 4)], 128),
    **state_dicts.pyramid("encoder.psp.stages", "encoder.psp.bottleneck"),
    **state_dicts.conv("main_decoder.upsample.0", 21, 512),
    **state_dicts.conv("aux_decoders.0.upsample.0", 21, 512),
}
CAC = {
    **_prefixed("module.encoder.backbone.", state_dicts.plain_resnet("")),
    **state_dicts.conv("module.encoder.aspp.conv1", 256, 1280),
    **state_dicts.conv("module.classifier.1", 21, 256, bias=True),
    **state_dicts.conv("module.project.0", 256, 256, bias=True),
}


@pytest.mark.parametrize(
    "entries, stem, first, last",
    [
        (CPS, "deep", "branch1.backbone.conv1", "branch1.backbone.layer4"),
        (CCT, "deep", "encoder.base.0.0.conv1", "encoder.base.4"),
        (
            CAC,
            "plain",
            "module.encoder.backbone.conv1",
            "module.encoder.backbone.layer4",
        ),
    ],
    ids=["CPS", "CCT", "CAC"],
)
def test_a_whole_network_serves_its_encoder(
    tmp_path, entries, stem, first, last
):
    path = _write(tmp_path / "x.pth", entries)
    pretrained.load(encoder(stem), path)
    _assert_values(
        encoder(stem),
        entries,
        {
            "stem/0/convolution/kernel": f"{first}.weight",
            "stages/3/2/reduce/convolution/kernel": f"{last}.2.conv1.weight",
        },
    )


def test_the_second_branch_of_cps(tmp_path):
    path = _write(tmp_path / "x.pth", CPS)
    found = pretrained.fit(encoder("deep"), path, "branch2")
    assert not found.problems()
    names = {match.path: match.name for match in found.matched}
    assert names["stem/0/convolution/kernel"] == "branch2.backbone.conv1.weight"
    assert all(name.startswith("branch2.") for name in names.values())


def test_a_whole_network_fits_a_network(tmp_path):
    entries = dict(CCT)
    for n in range(3):
        name = f"main_decoder.upsample.{n + 1}.conv"
        entries.update(state_dicts.conv(name, 84, 21, bias=True))
    path = _write(tmp_path / "x.pth", entries)
    found = pretrained.fit_network(network(), path)
    assert not found.problems()
    assert found.dropped == ["aux_decoders.0.upsample.0.weight"]
    found.assign()
    _assert_values(
        network(),
        entries,
        {
            "encoder/resnet/stem/0/convolution/kernel": (
                "encoder.base.0.0.conv1.weight"
            ),
            "encoder/pyramid/merge/kernel": "encoder.psp.bottleneck.0.weight",
            "decoder/upsample/2/bias": "main_decoder.upsample.3.conv.bias",
        },
    )
    # The backbone alone as well.
    pretrained.load(network().encoder.backbone, path)


def _assert_unfit(model, path, *messages):
    before = model.get_weights()
    with pytest.raises(ValueError, match="does not fit the encoder") as error:
        pretrained.load(model, path)
    for message in messages:
        assert message in str(error.value)
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable, value)


def test_what_is_missing_or_misshaped_is_listed_and_nothing_changes(tmp_path):
    entries = dict(TORCHVISION)
    del entries["layer1.0.bn1.running_mean"]
    entries["layer1.0.conv2.weight"] = [64, 64, 1, 1]
    entries["layer5.0.conv1.weight"] = [1, 1, 1, 1]
    path = _write(tmp_path / "x.pth", entries)
    _assert_unfit(
        encoder("plain"),
        path,
        "1 of another shape: layer1.0.conv2.weight (float32 [1, 1, 64, 64] "
        "for stages/0/0/spatial/convolution/kernel, [3, 3, 64, 64])",
        "1 in the file, but not in the model: layer5.0.conv1.weight",
        "stages/0/0/reduce/batch_norm/moving_mean",
    )


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = _write(tmp_path / "x.pth", TORCHVISION)
    _assert_unfit(encoder("deep"), path, "conv1.weight (float32 [7, 7, 3, 64]")
    path = _write(tmp_path / "x.pth", DEEP)
    _assert_unfit(encoder("plain"), path, "conv1.weight (float32 [3, 3, 3, 64]")
    small = fcn.build(num_classes=2, width=4).encoder
    _assert_unfit(small, path, "30 in the model, but not in the file", "more)")


@pytest.mark.parametrize("suffix", ["", ".h5", ".weights.h5", "own"])
def test_files_of_the_encoder_itself(tmp_path, suffix):
    first, second = (fcn.build(num_classes=2, width=4) for _ in range(2))
    path = str(tmp_path / f"weights{suffix}")
    if suffix == "own":
        files.write(path, first.encoder, base.paths(first.encoder))
    else:
        first.encoder.save_weights(path)
    pretrained.load(second.encoder, path)
    for a, b in zip(first.encoder.variables, second.encoder.variables):
        np.testing.assert_array_equal(a, b)
    wider = fcn.build(num_classes=2, width=8).encoder
    before = wider.get_weights()
    with pytest.raises(ValueError, match="does not fit the encoder"):
        pretrained.load(wider, path)
    np.testing.assert_array_equal(wider.variables[0], before[0])


def test_a_network_marks_its_pretrained_variables(tmp_path):
    entries = {**DEEP, "fc.weight": [1000, 2048], "fc.bias": [1000]}
    path = _write(tmp_path / "x.pth", entries)
    network = deeplab_v3_plus.build(num_classes=2, weights=path)
    assert network.encoder.pretrained_variables == network.encoder.variables
    _assert_values(network.encoder, entries, {})


def test_imagenet_is_a_file_of_keras(monkeypatch, tmp_path):
    path = _write(tmp_path / "x.pth", TORCHVISION)
    monkeypatch.setattr(keras_applications, "find", lambda encoder: path)
    pretrained.load(encoder("plain"), "imagenet")


def test_another_normalization_is_warned_of(monkeypatch, tmp_path, caplog):
    path = _write(tmp_path / "x.pth", TORCHVISION)
    monkeypatch.setattr(encoder("plain"), "normalization", "caffe")
    with caplog.at_level(logging.WARNING):
        pretrained.load(encoder("plain"), path)
    assert "this network has 'caffe'" in caplog.text


@pytest.mark.parametrize("weights", ["nowhere.pth", "ImageNet"])
def test_a_missing_file_is_named(weights):
    with pytest.raises(ValueError, match=f"Received: '{weights}'.*'imagenet'"):
        pretrained.load(encoder("plain"), weights)
