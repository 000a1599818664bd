# SPDX-License-Identifier: Apache-2.0
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow import keras

from tfseg import export
from tfseg.datasets import base

INFO = base.Info(
    name="toy",
    class_names=("a", "b", "c"),
    palette=((0, 0, 0), (255, 0, 0), (0, 0, 255)),
)
LOADER = """
import os
import sys
sys.modules["tfseg"] = None  # import tfseg raises
import numpy as np
import tensorflow as tf
for folder in sys.argv[1:]:
    os.chdir(folder)
    model = tf.saved_model.load("export")
    arrays = np.load("in.npz")
    results = {}
    for name in arrays.files:
        outputs = model.signatures["serving_default"](images=arrays[name])
        results |= {f"{name}/{key}": value for key, value in outputs.items()}
    encoded = [open(path, "rb").read() for path in ("a.png", "b.png")]
    outputs = model.signatures["from_encoded"](encoded=tf.constant(encoded))
    results |= {f"encoded/{key}": value for key, value in outputs.items()}
    results["classes"] = os.path.abspath(
        model.classes.asset_path.numpy().decode()
    )
    np.savez("out.npz", **results)
assert not any(name.startswith("tfseg.") for name in sys.modules)
"""


class Toy(keras.Model):
    """Halves the image and comes back, with batch statistics."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Conv2D(5, 3, strides=2, padding="same")
        self.norm = keras.layers.BatchNormalization()
        self.last = keras.layers.Conv2D(3, 1, dtype="float32")
        self.build((None, None, None, 3))

    def call(self, images, training=None):
        features = self.norm(self.first(images / 64.0), training=training)
        return tf.image.resize(self.last(features), tf.shape(images)[1:3])


def _toy(policy="float32"):
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(policy)
    try:
        network = Toy()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    # Not the initial statistics: an export with training=True would differ.
    network.norm.moving_mean.assign(tf.random.normal([5]))
    return network


def _images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _expected(network, images):
    logits = network(images.astype(np.float32), training=False)
    return tf.nn.softmax(tf.cast(logits, tf.float32)).numpy()


def _png(array, mode=None):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, "PNG")
    return buffer.getvalue()


def _check(outputs, prob):
    """Whether arrays are the three outputs for these probabilities."""
    assert set(outputs) == {"class_map", "probabilities", "confidence"}
    np.testing.assert_allclose(outputs["probabilities"], prob, atol=1e-5)
    np.testing.assert_allclose(outputs["confidence"], prob.max(-1), atol=1e-5)
    assert outputs["class_map"].dtype == np.uint8
    np.testing.assert_array_equal(outputs["class_map"], prob.argmax(-1))


@pytest.fixture(name="saved", scope="module")
def _saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "deep" / "export"
    network = _toy()
    export.export(network, INFO, str(path))
    return network, path


@pytest.fixture(name="loaded", scope="module")
def _loaded(saved):
    return tf.saved_model.load(str(saved[1]))


def _export_with_inputs(policy, folder):
    """What LOADER reads; returns the network and the arrays."""
    network = _toy(policy)
    export.export(network, INFO, folder / "export")
    arrays = {"small": _images(2, 8, 6, 3), "large": _images(1, 13, 21, 3)}
    np.savez(folder / "in.npz", **arrays)
    (folder / "a.png").write_bytes(_png(arrays["small"][0]))
    (folder / "b.png").write_bytes(_png(arrays["small"][1]))
    return network, arrays


def test_loads_in_a_process_without_tfseg(tmp_path):
    """In one process for both precisions: TensorFlow takes long to import."""
    folders = {}
    for policy in ("float32", "mixed_bfloat16"):
        folder = tmp_path / policy
        folder.mkdir()
        folders[folder] = _export_with_inputs(policy, folder)
    subprocess.run(
        [sys.executable, "-c", LOADER, *folders],
        cwd=tmp_path,
        check=True,
        env=os.environ | {"PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": ""},
    )
    for folder, (network, arrays) in folders.items():
        results = np.load(folder / "out.npz")
        for name, images in (arrays | {"encoded": arrays["small"]}).items():
            outputs = {
                key.partition("/")[2]: results[key]
                for key in results.files
                if key.startswith(f"{name}/")
            }
            _check(outputs, _expected(network, images))
        with open(str(results["classes"])) as file:
            assert json.load(file) == {
                "class_names": ["a", "b", "c"],
                "palette": [[0, 0, 0], [255, 0, 0], [0, 0, 255]],
            }


def test_signatures_have_clean_names(loaded):
    signatures = loaded.signatures
    assert set(signatures) == {"serving_default", "from_encoded"}
    for name, given, shape in [
        ("serving_default", "images", [None, None, None, 3]),
        ("from_encoded", "encoded", [None]),
    ]:
        _, inputs = signatures[name].structured_input_signature
        assert list(inputs) == [given]
        assert inputs[given].shape.as_list() == shape
        outputs = signatures[name].structured_outputs
        assert {key: value.dtype for key, value in outputs.items()} == {
            "class_map": tf.uint8,
            "probabilities": tf.float32,
            "confidence": tf.float32,
        }
        assert outputs["class_map"].shape.rank == 3
        assert outputs["probabilities"].shape[-1] == 3


def test_saved_model_cli_lists_the_signatures(saved):
    tool = os.path.join(os.path.dirname(sys.executable), "saved_model_cli")
    if not os.path.exists(tool):
        pytest.skip(f"{tool} is not installed")
    shown = subprocess.run(
        [tool, "show", "--dir", saved[1], "--all"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for line in (
        "signature_def['serving_default']",
        "inputs['images'] tensor_info",
        "signature_def['from_encoded']",
        "inputs['encoded'] tensor_info",
        "outputs['class_map'] tensor_info",
        "outputs['probabilities'] tensor_info",
        "outputs['confidence'] tensor_info",
    ):
        assert line in shown


def test_encoded_images_of_every_kind_become_rgb(saved, loaded):
    network, _ = saved
    rgb = _images(4, 5, 3)
    alpha = np.concatenate([rgb, _images(4, 5, 1)], -1)
    palette = Image.fromarray(rgb).quantize(16)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    gray = rgb[..., 0]
    kinds = [
        (_png(rgb), rgb),
        (_png(alpha), rgb),
        (_png(gray), np.repeat(gray[..., None], 3, -1)),
        (buffer.getvalue(), np.asarray(palette.convert("RGB"))),
    ]
    encoded = tf.constant([data for data, _ in kinds])
    outputs = loaded.signatures["from_encoded"](encoded=encoded)
    images = np.stack([image for _, image in kinds])
    _check(
        {key: value.numpy() for key, value in outputs.items()},
        _expected(network, images),
    )


def test_encoded_jpeg(saved, loaded):
    network, _ = saved
    image = np.full([16, 16, 3], 77, np.uint8)
    data = tf.io.encode_jpeg(image)
    decoded = tf.io.decode_jpeg(data).numpy()
    outputs = loaded.signatures["from_encoded"](encoded=data[None])
    _check(
        {key: value.numpy() for key, value in outputs.items()},
        _expected(network, decoded[None]),
    )


@pytest.mark.parametrize(
    "encoded,message",
    [
        ([_png(_images(4, 5, 3)), _png(_images(5, 4, 3))], "all have one size"),
        ([], "`encoded` is empty"),
        ([b"no image"], "(?i)unknown image file format"),
    ],
)
def test_bad_encoded_images_are_named(loaded, encoded, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loaded.signatures["from_encoded"](
            encoded=tf.constant(encoded, tf.string)
        )


def test_existing_folder_is_kept_unless_overwritten(tmp_path):
    network = _toy()
    path = tmp_path / "export"
    path.mkdir()
    (path / "saved_model.pb").write_text("")
    (path / "precious").write_text("")
    with pytest.raises(ValueError, match="export exists already.*--overwrite"):
        export.export(network, INFO, path)
    assert (path / "precious").exists()
    export.export(network, INFO, path, overwrite=True)
    assert not (path / "precious").exists()
    assert (path / "saved_model.pb").exists()
    assert (path / "assets" / "classes.json").exists()
    assert os.listdir(tmp_path) == ["export"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_only_a_saved_model_is_replaced(tmp_path, overwrite):
    """Neither the run itself nor a file, whatever is asked for."""
    run, file = tmp_path / "run", tmp_path / "file"
    run.mkdir()
    for kept in (run / "config.json", file):
        kept.write_text("precious")
    for path in (run, file):
        with pytest.raises(ValueError, match=f"{path}.*no Saved") as error:
            export.export(_toy(), INFO, path, overwrite=overwrite)
        assert "--overwrite" not in str(error.value)
    assert (run / "config.json").read_text() == file.read_text() == "precious"
    (tmp_path / "empty").mkdir()
    if overwrite:
        export.export(_toy(), INFO, tmp_path / "empty", overwrite=True)
        assert (tmp_path / "empty" / "saved_model.pb").exists()


def test_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match="No space"):
        export.export(_toy(), INFO, tmp_path / "export")
    assert not os.listdir(tmp_path)


def test_only_the_variables_of_the_network_are_saved(saved):
    network, path = saved
    names = tf.train.list_variables(str(path / "variables" / "variables"))
    values = [name for name, _ in names if "VARIABLE_VALUE" in name]
    assert len(values) == len(network.variables)
