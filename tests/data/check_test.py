# SPDX-License-Identifier: Apache-2.0
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from tfseg import mask_code
from tfseg.data import check, decode

COLORS = ((0, 0, 0), (200, 0, 0), (224, 224, 192))
CODE = mask_code.MaskCode(COLORS, (0, 1, 255))


def _noise(height, width, depth=3):
    rng = np.random.default_rng(0)
    shape = (height, width, depth) if depth else (height, width)
    return Image.fromarray(rng.integers(0, 256, shape, np.uint8))


def _save(folder, name, image, **options):
    path = folder / name
    image.save(path, **options)
    return str(path)


def _mask(folder, name, values):
    path = folder / name
    path.write_bytes(decode.encode_label(np.array(values, np.uint8), ()))
    return str(path)


def _huge_png(path, side=30_000):
    """A PNG of which only the header is there."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = struct.pack(">I", 13) + header
    data += struct.pack(">I", zlib.crc32(header))
    data += struct.pack(">I", 9) + b"IDAT"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return str(path)


def _check_images(paths, max_pixels=10_000):
    sizes, findings = check.check_images(paths, max_pixels=max_pixels)
    assert sizes.dtype == np.int32 and sizes.shape == (len(paths), 2)
    return sizes, [str(finding) for finding in findings]


def _check_labels(labels, sizes, num_classes=2, code=CODE):
    counts, findings = check.check_labels(
        [f"image_{i}.jpg" for i in range(len(labels))],
        labels,
        np.array(sizes, np.int32),
        code=code,
        num_classes=num_classes,
    )
    assert counts.dtype == np.int64
    assert counts.shape == (len(labels), num_classes)
    return counts, findings


def test_good_images_give_their_sizes(tmp_path):
    paths = [
        _save(tmp_path, "a.jpg", _noise(7, 9)),
        _save(tmp_path, "b.png", _noise(3, 5, 0)),
        _save(tmp_path, "c.jpg", _noise(1, 1, 0)),
        _save(tmp_path, "d.png", _noise(40, 50, 4)),
    ]
    sizes, findings = _check_images(paths)
    assert findings == []
    np.testing.assert_array_equal(sizes, [[7, 9], [3, 5], [1, 1], [40, 50]])
    assert _check_images([])[1] == []


def test_size_is_as_stored_whatever_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # A quarter turn.
    path = _save(tmp_path, "a.jpg", _noise(4, 8), exif=exif)
    sizes, findings = _check_images([path])
    assert findings == [] and sizes.tolist() == [[4, 8]]
    assert decode.decode_image(open(path, "rb").read()).shape == (4, 8, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_padding_and_camera_data_behind_the_end_are_fine(tmp_path, suffix):
    path = _save(tmp_path, f"a.{suffix}", _noise(8, 8))
    for extra in (b"\0" * 300, b"\n", b"camera data" * 500):
        with open(path, "ab") as file:
            file.write(extra)
        assert _check_images([path])[1] == []


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_truncated_image_is_found(tmp_path, suffix, kept):
    path = _save(tmp_path, f"a.{suffix}", _noise(50, 50))
    good = _save(tmp_path, f"b.{suffix}", _noise(50, 50))
    content = open(path, "rb").read()
    with open(path, "wb") as file:
        file.write(content[: int(kept * len(content))])
    sizes, findings = _check_images([path, good])
    assert len(findings) == 1 and sizes.tolist() == [[0, 0], [50, 50]]
    assert findings[0].startswith(f"{path}: is truncated or damaged (")
    assert "Fix: " in findings[0]


def test_other_files_are_found(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello" * 100)
    (tmp_path / "start.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    paths = [str(tmp_path / n) for n in ("empty.jpg", "text.jpg", "start.png")]
    paths.append(_save(tmp_path, "a.jpg", _noise(4, 4), format="BMP"))
    paths.append(str(tmp_path / "none.jpg"))
    sizes, findings = _check_images(paths)
    assert not sizes.any()
    for path, finding, message in zip(
        paths,
        findings,
        [
            "is empty",
            "is not an image",
            "is not an image",
            "is a BMP file",
            "cannot be read: No such file",
        ],
    ):
        assert finding.startswith(f"{path}: {message}"), finding


def test_huge_image_is_refused_by_its_header(tmp_path):
    path = _huge_png(tmp_path / "huge.png")
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, findings = _check_images([path], max_pixels=100_000_000)
    assert Image.MAX_IMAGE_PIXELS == limit
    assert findings == [
        f"{path}: has 30000 x 30000 = 900,000,000 pixels, more than "
        "`config.data.max_pixels` = 100,000,000. Fix: scale or cut the "
        "image, or raise the limit."
    ]
    exact = _save(tmp_path, "a.png", _noise(10, 10))
    assert _check_images([exact], max_pixels=100)[1] == []
    assert len(_check_images([exact], max_pixels=99)[1]) == 1


def test_pixels_of_each_class_are_counted(tmp_path):
    labels = [
        _mask(tmp_path, "a.png", [[0, 1, 1], [255, 1, 1]]),
        _mask(tmp_path, "b.png", [[0, 0]]),
    ]
    pixels = np.array([[COLORS[1], COLORS[2], COLORS[0]]], np.uint8)
    labels.append(_save(tmp_path, "c.png", Image.fromarray(pixels)))
    counts, findings = _check_labels(labels, [[2, 3], [1, 2], [1, 3]])
    assert findings == []
    np.testing.assert_array_equal(counts, [[1, 4], [2, 0], [1, 1]])


def test_strange_ids_are_listed_with_their_pixels(tmp_path):
    label = _mask(tmp_path, "a.png", [[0, 21, 37, 37, 255]])
    counts, findings = _check_labels([label], [[1, 5]], num_classes=21)
    assert not counts.any()
    assert findings[0].value == (21, 37)
    assert findings[0].kind == "unknown_ids"
    assert findings[0].severity == "error"
    assert str(findings[0]) == (
        f"{label}: holds ids 21, 37 outside 0..20 (and 255 = ignore), in "
        "1, 2 pixels. Fix: correct the mask, or list all classes in "
        "classes.txt."
    )


def test_unknown_colors_are_listed(tmp_path):
    pixels = np.zeros([1, 9, 3], np.uint8)
    pixels[0, 1:3] = (1, 2, 3)
    label = _save(tmp_path, "a.png", Image.fromarray(pixels))
    _, findings = _check_labels([label], [[1, 9]])
    assert findings[0].value == ((1, 2, 3),)
    assert "not in the palette: (1, 2, 3), in 2 pixels" in str(findings[0])
    assert "index PNG" in findings[0].fix
    assert "classes.txt" in findings[0].fix
    pixels[0, 3:, 1] = range(1, 7)
    label = _save(tmp_path, "b.png", Image.fromarray(pixels))
    _, findings = _check_labels([label], [[1, 9]])
    # The most frequent first, five of the seven.
    assert findings[0].value[0] == (1, 2, 3)
    assert "... (2 more), in 2, 1, 1, " in str(findings[0])


def test_colors_where_no_class_has_one_are_listed(tmp_path):
    pixels = np.array([[(0, 0, 0), (9, 8, 7), (9, 8, 7)]], np.uint8)
    label = _save(tmp_path, "a.png", Image.fromarray(pixels))
    code = mask_code.MaskCode(
        index_labels=mask_code.index_labels({0: 0, 255: 1})
    )
    counts, findings = _check_labels([label], [[1, 3]], code=code)
    assert not counts.any() and findings[0].kind == "unknown_colors"
    assert findings[0].value == ((9, 8, 7), (0, 0, 0))
    assert findings[0].fix.startswith("save the mask as index PNG")


def test_size_must_be_that_of_the_image(tmp_path):
    label = _mask(tmp_path, "a.png", [[0, 1, 1]])
    _, findings = _check_labels([label], [[3, 1]])
    assert "is 3 x 1 pixels (width x height)" in str(findings[0])
    assert "image_0.jpg is 1 x 3" in str(findings[0])
    # Never decoded: it would need a gigabyte.
    huge = _huge_png(tmp_path / "huge.png")
    _, findings = _check_labels([huge], [[3, 1]])
    assert "is 30000 x 30000 pixels" in str(findings[0])


def test_mask_of_a_refused_image_is_left_out(tmp_path):
    labels = [
        _huge_png(tmp_path / "huge.png"),
        _mask(tmp_path, "a.png", [[0, 1, 1]]),
    ]
    counts, findings = _check_labels(labels, [[0, 0], [1, 3]])
    assert findings == [] and counts.tolist() == [[0, 0], [1, 2]]


def test_bad_masks_are_found(tmp_path):
    good = _mask(tmp_path, "good.png", np.arange(100).reshape(10, 10) % 2)
    content = open(good, "rb").read()
    (tmp_path / "cut.png").write_bytes(content[:-30])
    flipped = bytearray(content)
    flipped[content.index(b"IDAT") + 8] ^= 255
    (tmp_path / "flipped.png").write_bytes(flipped)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello" * 10)
    _save(tmp_path, "lossy.png", _noise(10, 10, 0), format="JPEG")
    wide = Image.fromarray(np.zeros([10, 10], np.uint16))
    _save(tmp_path, "wide.png", wide)
    expected = {
        "cut": "is truncated or damaged",
        "flipped": "is truncated or damaged",
        "empty": "is empty",
        "text": "is not a PNG file",
        "lossy": "is a JPEG; that is lossy",
        "wide": "has 16 bits a channel",
        "none": "cannot be read: No such file",
    }
    labels = [str(tmp_path / f"{name}.png") for name in expected] + [good]
    counts, findings = _check_labels(labels, [[10, 10]] * len(labels))
    assert counts[-1].tolist() == [50, 50] and not counts[:-1].any()
    assert len(findings) == len(expected)
    for label, finding, message in zip(labels, findings, expected.values()):
        assert str(finding).startswith(f"{label}: {message}"), str(finding)


def test_undecodable_image_is_found(tmp_path):
    paths = [_save(tmp_path, f"{i}.png", _noise(50, 50)) for i in range(5)]
    content = bytearray(open(paths[3], "rb").read())
    content[len(content) // 2] ^= 255
    with open(paths[3], "wb") as file:
        file.write(content)
    # The header and the end say nothing of it.
    assert _check_images(paths)[1] == []
    findings = check.find_undecodable(paths)
    assert [finding.file for finding in findings] == [paths[3]]


def test_raise_lists_ten_and_the_number_of_the_rest():
    check.raise_on([])
    findings = [
        check.Finding(f"{i}.png", i, "bad", "do", "damaged") for i in range(12)
    ]
    with pytest.raises(ValueError) as error:
        check.raise_on(findings)
    lines = str(error.value).splitlines()
    assert lines[0] == "0.png: bad. Fix: do." and len(lines) == 11
    assert lines[-1] == "... and 2 more files"
    with pytest.raises(ValueError) as error:
        check.raise_on(findings[:10])
    assert len(str(error.value).splitlines()) == 10


def test_values_outside_the_code_are_named(tmp_path):
    table = mask_code.index_labels({7: 0, 8: 1}, ignored=(0,))
    code = mask_code.MaskCode((), (), table)
    good, bad = (
        _save(tmp_path, name, Image.fromarray(np.array(values, np.uint8)))
        for name, values in (
            ("good.png", [[7, 8], [0, 255]]),
            ("bad.png", [[7, 9], [9, 3]]),
        )
    )
    counts, findings = _check_labels([good, bad], [(2, 2)] * 2, code=code)
    np.testing.assert_array_equal(counts, [[1, 1], [0, 0]])
    assert len(findings) == 1 and findings[0].value == (3, 9)
    assert "no class of this data set: 3, 9, in 1, 2 pixels" in str(findings[0])


def test_what_a_mask_looks_like_is_in_the_message(tmp_path):
    colors = np.array([COLORS[0], COLORS[1]], np.uint8)
    disc = np.zeros([20, 20], np.uint8)
    disc[5:15, 5:15] = 1
    gray = Image.fromarray(colors[disc]).convert("L")
    swapped = Image.fromarray(colors[disc][..., ::-1].copy())
    labels = [
        _save(tmp_path, "gray.png", gray),
        _save(tmp_path, "bgr.png", swapped),
        _mask(tmp_path, "from_1.png", disc + 1),
    ]
    _, findings = _check_labels(labels, [[20, 20]] * 3)
    assert "looks like a color mask saved as gray" in findings[0].message
    assert "Fix: save the color mask itself" in str(findings[0])
    assert "red and blue swapped" in findings[1].message
    assert "counted from 1" in findings[2].message


def test_many_images_are_decoded_without_keeping_them(tmp_path, monkeypatch):
    paths = [_save(tmp_path, f"{i}.png", _noise(9, 9)) for i in range(3)]
    seen = []
    run = check.check_all
    monkeypatch.setattr(
        check, "check_all", lambda *args: seen.append(run(*args)) or seen[-1]
    )
    assert check.find_undecodable(paths) == []
    assert seen[0][0] == [None] * 3
