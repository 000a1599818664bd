# SPDX-License-Identifier: Apache-2.0
"""The oracle is keras.applications itself, with random weights."""

import hashlib
import types

import h5py
import numpy as np
import pytest
from tensorflow import keras

from tfseg.networks.encoders import densenet, resnet, vgg
from tfseg.networks.weights import keras_applications, pretrained

APPLICATIONS = keras.applications
LAYERS = {
    "resnet50": ["conv2_block3_out", "conv4_block6_out", "conv5_block3_out"],
    "vgg16": ["block1_conv2", "block4_conv3", "block5_conv3"],
    "densenet121": ["conv2_block6_concat", "conv4_block24_concat", "relu"],
}


def _image():
    image = np.random.RandomState(0).uniform(0, 255, (1, 64, 32, 3))
    return image.astype(np.float32)


def _oracle(build, path, name, mode):
    """Writes random weights; returns {layer: its output for `_image()`}."""
    model = build(weights=None, include_top=False, input_shape=(64, 32, 3))
    draw = np.random.RandomState(1)
    for variable in model.variables:
        if variable.shape.rank == 1:
            center = float("gamma" in variable.name) + float(
                "variance" in variable.name
            )
            noise = draw.uniform(-0.3, 0.3, variable.shape)
            variable.assign(center + noise)
    model.save_weights(path)
    outputs = [model.get_layer(layer).output for layer in LAYERS[name]]
    image = APPLICATIONS.imagenet_utils.preprocess_input(_image(), mode=mode)
    return keras.Model(model.input, outputs)(image)


def _assert_close(found, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-4 * scale)


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    """(path, outputs)."""
    path = str(tmp_path_factory.mktemp("weights") / "any_name.h5")
    build = APPLICATIONS.ResNet50
    return path, _oracle(build, path, "resnet50", "caffe")


def _resnet(output_stride):
    return resnet.build(
        stem="plain",
        stride_on="1x1",
        normalization="caffe",
        multi_grid=(1, 1, 1),
        output_stride=output_stride,
    )


def test_resnet_computes_what_keras_does(resnet50):
    path, expected = resnet50
    encoder = _resnet(32)
    pretrained.load(encoder, path)
    features = encoder(_image())
    names = ("stride4", "stride16", "stride32")
    for name, value in zip(names, expected):
        _assert_close(features[name], value)


def test_dilated_resnet_agrees_at_shared_positions(resnet50):
    path, expected = resnet50
    encoder = _resnet(8)
    pretrained.load(encoder, path)
    features = encoder(_image())["stride8"]
    _assert_close(features[:, ::4, ::4], expected[-1])


@pytest.mark.parametrize(
    "name, build, encoder, mode, strides",
    [
        (
            "vgg16",
            APPLICATIONS.VGG16,
            lambda: vgg.build(
                output_stride=16, pool_size=2, normalization="caffe"
            ),
            "caffe",
            (1, 8, 16),
        ),
        (
            "densenet121",
            APPLICATIONS.DenseNet121,
            lambda: densenet.build(depth=121),
            "torch",
            (4, 16, 32),
        ),
    ],
)
def test_others_compute_what_keras_does(
    tmp_path, name, build, encoder, mode, strides
):
    path = str(tmp_path / "weights.h5")
    expected = _oracle(build, path, name, mode)
    encoder = encoder()
    pretrained.load(encoder, path)
    features = encoder(_image())
    for stride, value in zip(strides, expected):
        _assert_close(features[f"stride{stride}"], value)


@pytest.mark.parametrize("depth", [169, 201])
def test_names_of_deeper_densenets(depth):
    """Without the work of building them."""
    blocks = densenet.LAYOUTS[depth][2]
    targets = keras_applications._TARGETS["densenet"]
    last = f"conv4_block{blocks[2]}"
    dense = f"stages/2/dense_layers/{blocks[2] - 1}"
    assert targets(f"{last}_0_bn") == [f"{dense}/norm1"]
    assert targets(f"{last}_2_conv") == [f"{dense}/conv2"]
    assert targets("pool4_conv") == ["stages/3/transition/conv"]
    assert targets("conv4_block1_0_relu") == []


def _fake(architecture, normalization="torch", strides=(2, 2)):
    """As much of an encoder as is looked at."""
    space = types.SimpleNamespace
    block = space(reduce=space(convolution=space(strides=strides)))
    return space(
        architecture=architecture,
        normalization=normalization,
        stages=[None, [block]],
    )


@pytest.mark.parametrize(
    "encoder",
    [_fake("resnet50", "torch"), _fake("resnet50", "caffe", (1, 1))],
)
def test_an_encoder_built_otherwise_is_told_what_to_set(resnet50, encoder):
    with pytest.raises(
        ValueError,
        match="needs config.network.normalization='caffe' and "
        "config.network.stride_on='1x1'",
    ):
        keras_applications.fit(resnet50[0], encoder, {})


def test_an_encoder_that_keras_has_not_is_told_the_choices(resnet50):
    encoder = _fake("resnet50_deep", "caffe")
    message = r"resnet50, .*densenet201, but not of this .*'resnet50_deep'"
    with pytest.raises(ValueError, match=message):
        keras_applications.find(encoder)
    with pytest.raises(ValueError, match=message):
        keras_applications.fit(resnet50[0], encoder, {})


def test_weights_of_another_depth_are_listed(resnet50):
    path = "stages/2/22/reduce/batch_norm/gamma"
    variables = {path: types.SimpleNamespace(shape=(256,))}
    encoder = _fake("resnet101", "caffe")
    found = keras_applications.fit(resnet50[0], encoder, variables)
    assert found.missing == [path] and len(found.unmatched) > 200


def test_old_names_of_variables_go_by_their_order(tmp_path):
    """VGG16's file of 2016 has block1_conv1_W_1:0; one has its top."""
    kernel = np.random.RandomState(0).rand(3, 3, 3, 2).astype(np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file.create_group("model_weights")
        names = [b"block1_conv1", b"block1_pool", b"predictions"]
        group.attrs["layer_names"] = names
        for name in names:
            group.create_group(name).attrs["weight_names"] = []
        layers = {
            "block1_conv1": ["block1_conv1_W_1:0", "block1_conv1_b_1:0"],
            "predictions": ["predictions/kernel:0", "predictions/bias:0"],
        }
        for layer, variables in layers.items():
            values = [kernel, np.arange(2.0)]
            group[layer].attrs["weight_names"] = variables
            for variable, value in zip(variables, values):
                group[layer][variable] = value
    assert keras_applications.is_one(tmp_path / "x.h5")
    variables = {
        "stages/0/0/kernel": types.SimpleNamespace(shape=(3, 3, 3, 2)),
        "stages/0/0/bias": types.SimpleNamespace(shape=(2,)),
    }
    found = keras_applications.fit(
        tmp_path / "x.h5", _fake("vgg16", "caffe"), variables
    )
    assert not found.problems()
    assert found.dropped == ["predictions.kernel", "predictions.bias"]
    # Red comes first here, last in a file for BGR.
    by_path = {match.path: match.value for match in found.matched}
    np.testing.assert_array_equal(
        by_path["stages/0/0/kernel"][:, :, 0], kernel[:, :, 2]
    )


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _publish(monkeypatch, path, content):
    """Makes a local file the published one of vgg16."""
    url = f"file://{path}"
    digest = hashlib.md5(content).hexdigest()
    published = keras_applications.Published(url, digest, "caffe")
    monkeypatch.setitem(keras_applications.PUBLISHED, "vgg16", published)


def test_a_cached_file_needs_no_network(home, tmp_path, monkeypatch):
    _publish(monkeypatch, tmp_path / "nowhere" / "vgg16.h5", b"weights")
    path = home / "models" / "vgg16.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert keras_applications.find(_fake("vgg16")) == str(path)
    path.write_bytes(b"weigh")
    with pytest.raises(ValueError, match="vgg16.h5 is not the published file"):
        keras_applications.find(_fake("vgg16"))
    # It is the user's; nothing else removes it.
    assert path.exists()


def test_without_a_network_it_says_which_file_to_put_where(
    home, tmp_path, monkeypatch
):
    _publish(monkeypatch, tmp_path / "nowhere" / "vgg16.h5", b"weights")
    with pytest.raises(ValueError) as error:
        keras_applications.find(_fake("vgg16"))
    assert f"vgg16.h5 is not in {home}/models" in str(error.value)
    assert f"Get it from file://{tmp_path}/nowhere/vgg16.h5" in str(error.value)
    assert "config.network.weights" in str(error.value)


def test_downloads_into_the_cache(home, tmp_path, monkeypatch):
    (tmp_path / "vgg16.h5").write_bytes(b"weights")
    _publish(monkeypatch, tmp_path / "vgg16.h5", b"weights")
    path = keras_applications.find(_fake("vgg16"))
    assert path == str(home / "models" / "vgg16.h5")
    assert open(path, "rb").read() == b"weights"


def test_published_files_are_those_of_keras():
    from keras.src.applications import densenet as keras_densenet
    from keras.src.applications import resnet as keras_resnet
    from keras.src.applications import vgg16 as keras_vgg16

    published = keras_applications.PUBLISHED
    for name in ("resnet50", "resnet101", "resnet152"):
        assert published[name].md5 == keras_resnet.WEIGHTS_HASHES[name][1]
        folder = published[name].url.rpartition("/")[0]
        assert f"{folder}/" == keras_resnet.BASE_WEIGHTS_PATH
    assert published["vgg16"].url == keras_vgg16.WEIGHTS_PATH_NO_TOP
    for depth in (121, 169, 201):
        address = getattr(keras_densenet, f"DENSENET{depth}_WEIGHT_PATH_NO_TOP")
        assert published[f"densenet{depth}"].url == address
    for name in published:
        assert published[name].url.endswith(
            f"/{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
        )
