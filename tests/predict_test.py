# SPDX-License-Identifier: Apache-2.0
import io
import os
import types

import numpy as np
import pytest
import tensorflow as tf
from ml_collections import config_dict
from PIL import Image
from tensorflow import keras

from tfseg import inference, predict, runs
from tfseg.datasets import base

INFO = base.Info(
    name="toy",
    class_names=("dark", "bright"),
    palette=((0, 0, 100), (200, 40, 0)),
)
# More than WHOLE_SIDE in one direction.
LONG = (4, predict.WHOLE_SIDE + 100)


class Brightness(keras.Model):
    """Probability of class 1 is sigmoid(red / 32 - 4)."""

    def call(self, images, training=None):
        logit = images[..., 0] / 32 - 4
        return tf.stack([0 * logit, logit], -1)


@pytest.fixture(name="config", autouse=True)
def _run(monkeypatch):
    config = config_dict.ConfigDict(
        {
            "evaluate": {"window": 0, "overlap": 0.5},
            "data": {"max_pixels": 100_000},
        }
    )
    run = types.SimpleNamespace(config=config, info=INFO, network=Brightness())
    monkeypatch.setattr(runs, "load", lambda *args: run)
    return config


def _write(path, size=(4, 6), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, [*size, 3], np.uint8)
    Image.fromarray(image).save(path)
    return image


def _predict(tmp_path, input, **options):
    options.setdefault("output", str(tmp_path / "out"))
    return predict.predict_files("run", input=str(input), **options)


def _files(folder):
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
    )


def _check_pictures(image, folder, stem):
    red = image[..., 0].astype(np.float32)
    bright = 1 / (1 + np.exp(4 - red / 32))
    label = Image.open(folder / f"{stem}.png")
    assert label.mode == "P"
    np.testing.assert_array_equal(label, bright > 0.5)
    assert label.getpalette()[:6] == [0, 0, 100, 200, 40, 0]
    overlay = np.asarray(Image.open(folder / f"{stem}_overlay.png"))
    colors = np.where((bright > 0.5)[..., None], [200, 40, 0], [0, 0, 100])
    np.testing.assert_allclose(overlay, (image + colors) / 2, atol=1)
    confidence = Image.open(folder / f"{stem}_confidence.png")
    assert confidence.mode == "L"
    largest = np.maximum(bright, 1 - bright)
    np.testing.assert_allclose(confidence, largest * 255, atol=0.6)


@pytest.mark.parametrize("window", [None, 3])
def test_pictures_of_one_file(tmp_path, window):
    image = _write(tmp_path / "a.b.png")
    assert not _predict(tmp_path, tmp_path / "a.b.png", window=window)
    assert _files(tmp_path / "out") == [
        "a.b.png",
        "a.b_confidence.png",
        "a.b_overlay.png",
    ]
    _check_pictures(image, tmp_path / "out", "a.b")


def test_folder_keeps_its_sub_folders(tmp_path):
    _write(tmp_path / "in" / "a.PNG")
    image = _write(tmp_path / "in" / "sub" / "deep" / "a.png", seed=1)
    (tmp_path / "in" / "notes.txt").write_text("not asked for")
    assert not _predict(tmp_path, tmp_path / "in")
    assert len(_files(tmp_path / "out")) == 6
    _check_pictures(image, tmp_path / "out" / "sub" / "deep", "a")


def test_folders_that_are_links_are_read(tmp_path):
    photos, far = tmp_path / "photos", tmp_path / "far"
    for folder in (photos, far):
        folder.mkdir()
    (far / "a.PNG").touch()
    (photos / "linked").symlink_to(far)
    (photos / "loop").symlink_to(photos)
    found = predict.find_images(str(photos), str(tmp_path / "out"))
    assert found == {str(photos / "linked" / "a.PNG"): "linked/a.PNG"}


def test_pattern_keeps_folders_below_its_fixed_part(tmp_path):
    for place in ("x/1/a.png", "x/2/a.png", "x/2/b.jpg"):
        _write(tmp_path / "in" / place)
    assert not _predict(tmp_path, tmp_path / "in" / "**" / "*.png")
    assert [path for path in _files(tmp_path / "out") if "_" not in path] == [
        "x/1/a.png",
        "x/2/a.png",
    ]


def test_relative_pattern(tmp_path, monkeypatch):
    _write(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert list(predict.find_images("*.png", "out")) == ["a.png"]


def test_file_with_wildcards_in_its_name(tmp_path):
    _write(tmp_path / "a[1].png")
    assert not _predict(tmp_path, tmp_path / "a[1].png")
    assert (tmp_path / "out" / "a[1].png").exists()


def test_output_inside_the_input_is_not_read_again(tmp_path):
    _write(tmp_path / "in" / "a.jpg")
    out = str(tmp_path / "in" / "out")
    for _ in range(2):
        _predict(tmp_path, tmp_path / "in", output=out, overwrite=True)
    assert len(_files(tmp_path / "in" / "out")) == 3


def test_output_above_the_input(tmp_path):
    _write(tmp_path / "in" / "a.jpg")
    assert not _predict(tmp_path, tmp_path / "in", output=str(tmp_path))
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("options", [{"flip": True}, {"window": 100}])
def test_long_image_goes_by_tiles(tmp_path, monkeypatch, options):
    image = _write(tmp_path / "long.png", LONG)
    tiled = []
    real = inference.predict_tiled

    def watched(predictor, image):
        tiled.append((predictor.window, predictor.flip))
        return real(predictor, image)

    monkeypatch.setattr(inference, "predict_tiled", watched)
    assert not _predict(tmp_path, tmp_path / "long.png", **options)
    side = options.get("window", predict.TILE)
    assert tiled == [((side, side), options.get("flip", False))]
    _check_pictures(image, tmp_path / "out", "long")


def test_window_of_the_config_is_the_default(tmp_path, config, monkeypatch):
    config.evaluate.window = 5
    windows = []
    monkeypatch.setattr(
        inference,
        "predict_tiled",
        lambda predictor, image: windows.append(predictor.window)
        or (image[..., 0] * 0, image[..., 0]),
    )
    _write(tmp_path / "a.png")
    _predict(tmp_path, tmp_path / "a.png")
    assert windows == [(5, 5)]


def test_existing_output_is_named_before_any_work(tmp_path, monkeypatch):
    _write(tmp_path / "in" / "a.png")
    _write(tmp_path / "in" / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b_overlay.png").write_text("precious")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "load", lambda *args: pytest.fail("work"))
        with pytest.raises(ValueError, match="b_overlay.png.*--overwrite"):
            _predict(tmp_path, tmp_path / "in")
    assert _files(tmp_path / "out") == ["b_overlay.png"]
    _predict(tmp_path, tmp_path / "in", overwrite=True)
    assert len(_files(tmp_path / "out")) == 6
    assert Image.open(tmp_path / "out" / "b_overlay.png").size == (6, 4)


def test_two_images_for_one_output_are_refused(tmp_path):
    _write(tmp_path / "in" / "a.jpg")
    _write(tmp_path / "in" / "a.png")
    with pytest.raises(ValueError, match="a.jpg and .*a.png would both"):
        _predict(tmp_path, tmp_path / "in", overwrite=True)
    os.remove(tmp_path / "in" / "a.jpg")
    _write(tmp_path / "in" / "a_overlay.jpg")
    with pytest.raises(ValueError, match="would both be written"):
        _predict(tmp_path, tmp_path / "in")
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_replaced(tmp_path):
    _write(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(ValueError, match="a.png would be replaced"):
        _predict(
            tmp_path,
            tmp_path / "a.png",
            output=str(tmp_path),
            overwrite=True,
        )
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize("name", ["nothing", "*.jpg", ""])
def test_no_image_is_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No image matches `--input`"):
        _predict(tmp_path, tmp_path / "empty" / name)


def test_bad_images_are_listed_and_the_rest_go_on(tmp_path):
    folder = tmp_path / "in"
    image = _write(folder / "z.png")
    _write(folder / "cut.png", (50, 50))
    data = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    _write(folder / "cut2.jpg", (50, 50))
    data = (folder / "cut2.jpg").read_bytes()
    (folder / "cut2.jpg").write_bytes(data[: len(data) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image")
    _write(folder / "vast.png", (500, 500))
    failures = dict(_predict(tmp_path, folder))
    assert [os.path.basename(path) for path in failures] == [
        "cut.png",
        "cut2.jpg",
        "empty.png",
        "text.jpg",
        "vast.png",
    ]
    assert "500" in failures[str(folder / "vast.png")]
    assert all("\n" not in reason for reason in failures.values())
    assert len(_files(tmp_path / "out")) == 3
    _check_pictures(image, tmp_path / "out", "z")


def test_max_pixels_wins_over_the_config(tmp_path):
    _write(tmp_path / "a.png")
    assert len(_predict(tmp_path, tmp_path / "a.png", max_pixels=23)) == 1
    assert not _predict(tmp_path, tmp_path / "a.png", max_pixels=24)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_every_kind_of_image(tmp_path, mode):
    image = _write(tmp_path / "rgb.png")
    path = tmp_path / "a.png"
    Image.fromarray(image).convert(mode).save(path)
    image = np.asarray(Image.open(path).convert("RGB"))
    assert not _predict(tmp_path, path)
    _check_pictures(image, tmp_path / "out", "a")


def test_killed_while_writing_leaves_no_half_picture(tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            super().write(data[:10])
            raise OSError("No space left on device")

    _write(tmp_path / "a.png")
    monkeypatch.setattr("builtins.open", Full)
    with pytest.raises(OSError, match="No space left"):
        _predict(tmp_path, tmp_path / "a.png")
    monkeypatch.undo()
    assert not [
        path for path in _files(tmp_path / "out") if path.endswith(".png")
    ]


def test_render_of_every_label(tmp_path):
    class_map = np.array([[0, 1]], np.uint8)
    image = np.full([1, 2, 3], 255, np.uint8)
    _, overlay, _ = predict.render(image, class_map, class_map, INFO.palette)
    overlay = np.asarray(Image.open(io.BytesIO(overlay)))
    assert overlay.tolist() == [[[127, 127, 177], [227, 147, 127]]]
