# SPDX-License-Identifier: Apache-2.0
import json
import os

import numpy as np
import pytest
from PIL import Image

from tfseg.datasets.layout import copies


def _double(text):
    if text == "bad":
        raise ValueError("bad: cannot be read")
    return 2 * text.encode()


def _jobs(folder, **texts):
    return {str(folder / "deep" / name): text for name, text in texts.items()}


def test_files_that_are_there_are_left_as_they_are(tmp_path):
    jobs = _jobs(tmp_path, a="x", b="y")
    copies.write_all(jobs, _double, "files")
    assert (tmp_path / "deep/a").read_text() == "xx"
    (tmp_path / "deep/a").write_text("mine")
    (tmp_path / "deep/b").unlink()
    # What a kill in the middle of a write leaves behind.
    (tmp_path / "deep/.b.partial").write_text("half")
    copies.write_all(jobs, _double, "files")
    assert (tmp_path / "deep/a").read_text() == "mine"
    assert (tmp_path / "deep/b").read_text() == "yy"
    assert sorted(os.listdir(tmp_path / "deep")) == ["a", "b"]


def test_what_fails_is_named_and_the_rest_written(tmp_path):
    texts = {f"{i:02}": "bad" for i in range(12)}
    jobs = _jobs(tmp_path, good="x", **texts)
    with pytest.raises(ValueError) as error:
        copies.write_all(jobs, _double, "masks")
    message = str(error.value)
    assert "12 of 13 masks could not be converted" in message
    assert message.count("bad: cannot be read") == 10
    assert "Fix: get these files again" in message
    assert os.listdir(tmp_path / "deep") == ["good"]


def test_stamp_says_what_is_there_and_whether_it_is_complete(tmp_path):
    folder, settings = str(tmp_path / "new" / "data"), {"size": 3}
    copies.begin(folder, settings)
    copies.begin(folder, settings)
    with pytest.raises(ValueError, match="interrupted.* it: do this"):
        copies.check_complete(folder, "it: do this")
    with pytest.raises(ValueError, match=r"holds \{'size': 3\}, asked for"):
        copies.begin(folder, {"size": 4})
    copies.finish(folder, settings)
    assert copies.check_complete(folder, "x") == settings
    with open(os.path.join(folder, copies.STAMP)) as file:
        stamp = json.load(file)
    assert stamp == {"settings": settings, "complete": True}
    copies.begin(folder, settings)
    with pytest.raises(ValueError, match="interrupted"):
        copies.check_complete(folder, "x")


def test_folder_of_something_else_is_refused(tmp_path):
    assert copies.check_complete(str(tmp_path), "x") is None
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "photo.jpg").write_text("")
    for stamp in (None, "{", "[]", '{"settings": 1}'):
        if stamp:
            (tmp_path / copies.STAMP).write_text(stamp)
        with pytest.raises(ValueError, match="not written by launch.prepare"):
            copies.begin(str(tmp_path), {})
    (tmp_path / "photo.jpg").unlink()
    (tmp_path / copies.STAMP).unlink()
    copies.begin(str(tmp_path), {})


def test_images_are_read_whole_or_refused(tmp_path):
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    path.write_bytes(copies.png(pixels))
    np.testing.assert_array_equal(copies.read_image(str(path)), pixels)
    assert copies.read_image(str(path), "L").mode == "L"
    data = path.read_bytes()
    for contents in (data[: len(data) // 2], b"", b"text", data[:20]):
        path.write_bytes(contents)
        with pytest.raises(ValueError, match="a.png: cannot be read"):
            copies.read_image(str(path))


def test_png_of_a_palette_keeps_the_values(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(
        copies.png(np.array([[1, 255]], np.uint8), [(9, 8, 7)] * 256)
    )
    with Image.open(path) as image:
        assert image.mode == "P" and image.getpalette()[:3] == [9, 8, 7]
        np.testing.assert_array_equal(image, [[1, 255]])
