# SPDX-License-Identifier: Apache-2.0
import zlib

import numpy as np
import pytest
from PIL import Image

from tfseg.datasets.classes import mask_scan


def _mask(tmp_path, name, values, bits=8):
    image = Image.fromarray(np.array([values], np.uint8))
    image.putpalette([9, 9, 9] * 2**bits)
    image.save(tmp_path / name, bits=bits)
    return str(tmp_path / name)


def _gray(tmp_path, name, values, bits):
    """A gray PNG of few bits: a palette PNG with another color type."""
    path = _mask(tmp_path, name, values, bits)
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[25] = 0
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    # Gray has no palette: drop the chunk.
    start = data.index(b"PLTE") - 4
    size = int.from_bytes(data[start : start + 4], "big") + 12
    del data[start : start + size]
    with open(path, "wb") as file:
        file.write(data)
    with Image.open(path) as image:
        assert image.mode in ("1", "L")
    return path


def test_highest_id_counts_the_classes(tmp_path):
    paths = [
        _mask(tmp_path, "a.png", [0, 1, 255]),
        _mask(tmp_path, "b.png", [0, 3, 3], bits=2),
        _gray(tmp_path, "c.png", [0, 2, 1], bits=2),
        _gray(tmp_path, "d.png", [0, 1, 1], bits=1),
    ]
    names = mask_scan.class_names(paths)
    assert names == ("class_0", "class_1", "class_2", "class_3")
    assert len(mask_scan.class_names(paths[2:])) == 3
    assert len(mask_scan.class_names(paths[3:])) == 2
    wide = _gray(tmp_path, "e.png", [0, 13, 15], bits=4)
    assert len(mask_scan.class_names([wide])) == 16


def test_masks_without_ids_are_refused(tmp_path):
    path = _mask(tmp_path, "a.png", [255, 255])
    with pytest.raises(ValueError, match="nothing but 255"):
        mask_scan.class_names([path])
    path = str(tmp_path / "rgb.png")
    Image.new("RGB", (2, 2)).save(path)
    with pytest.raises(ValueError, match="rgb.png: RGB pixels.*classes.txt"):
        mask_scan.class_names([path])
    for name in ("JPEG", "BMP"):
        Image.new("L", (2, 2)).save(path, name)
        with pytest.raises(ValueError, match=f"rgb.png: is a {name} file. Fix"):
            mask_scan.class_names([path])
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match="bad.png: cannot be read"):
        mask_scan.class_names([str(tmp_path / "bad.png")])
