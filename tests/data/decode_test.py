# SPDX-License-Identifier: Apache-2.0
import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfseg import mask_code
from tfseg.data import decode

COLORS = ((10, 20, 30), (200, 0, 0), (224, 224, 192))
CODE = mask_code.MaskCode(COLORS, (0, 1, 255))
# Seven passes of Adam7: first column and row, step across and down.
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def _chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def _rows(values, bits):
    """Unfiltered scan lines of [H, W] values packed to `bits` each."""
    if values.size == 0:
        return b""
    shifts = np.arange(bits - 1, -1, -1)
    unpacked = (values[..., None] >> shifts & 1).astype(np.uint8)
    packed = np.packbits(unpacked.reshape(len(values), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def _png(values, bits, palette=None, *, interlaced=False, extra=(), parts=1):
    """A PNG written byte by byte: an oracle that no library stands behind."""
    height, width = values.shape
    if interlaced:
        passes = (values[y::dy, x::dx] for x, y, dx, dy in ADAM7)
        rows = b"".join(_rows(part, bits) for part in passes)
    else:
        rows = _rows(values, bits)
    data = zlib.compress(rows)
    header = struct.pack(
        ">IIBBBBB", width, height, bits, 3 if palette else 0, 0, 0, interlaced
    )
    chunks = [_chunk(b"IHDR", header)]
    if palette:
        chunks.append(_chunk(b"PLTE", bytes(np.ravel(palette).tolist())))
    chunks += [_chunk(kind, content) for kind, content in extra]
    size = -(-len(data) // parts)
    for start in range(0, len(data), size):
        chunks.append(_chunk(b"IDAT", data[start : start + size]))
    chunks.append(_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _save(array, kind="PNG", mode=None, **options):
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, kind, **options)
    return file.getvalue()


def _values(shape, top, seed=0):
    values = np.random.default_rng(seed).integers(0, top, shape, np.int64)
    values.flat[-1] = top - 1
    return values


def _decode(contents):
    return decode.decode_label(contents, CODE)


_traced = tf.function(_decode, input_signature=[tf.TensorSpec([], tf.string)])


def _check(contents, expected):
    for label in (_decode(contents), _traced(contents)):
        assert label.dtype == tf.int32
        np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (13, 3), (32, 40)])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_gives_indices_and_gray_gives_values(bits, shape, interlaced):
    values = _values(shape, 2**bits)
    palette = np.random.default_rng(1).integers(0, 256, [2**bits, 3])
    contents = _png(values, bits, palette.tolist(), interlaced=interlaced)
    # What Pillow reads, to be sure that the file is a proper one.
    image = np.array(Image.open(io.BytesIO(contents)))
    np.testing.assert_array_equal(image, values)
    _check(contents, values)
    _check(_png(values, bits, interlaced=interlaced), values)


def test_equal_colors_stay_different_indices():
    values = _values((9, 9), 16)
    _check(_png(values, 4, [(7, 7, 7)] * 16), values)


def test_chunks_before_the_data_are_skipped():
    values = _values((6, 5), 4)
    extra = [
        (b"gAMA", struct.pack(">I", 45455)),
        (b"tRNS", bytes([0, 128, 255])),
        (b"tEXt", b"Comment\0IDAT is not here"),
    ]
    palette = [(0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9)]
    _check(_png(values, 2, palette, extra=extra, parts=3), values)
    _check(_png(values, 2, extra=[(b"tRNS", b"\0\1")]), values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_png_of_pillow(bits):
    values = _values((11, 6), 2**bits).astype(np.uint8)
    image = Image.fromarray(values)
    palette = np.random.default_rng(2).integers(0, 256, 3 * 2**bits)
    image.putpalette(palette.astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", bits=bits, transparency=1, optimize=True)
    assert file.getvalue()[24:26] == bytes([bits, 3])
    _check(file.getvalue(), np.array(Image.open(file)))


def test_gray_with_alpha_and_bool():
    values = np.array([[[3, 255], [255, 0]]], np.uint8)
    _check(_save(values, mode="LA"), [[3, 255]])
    _check(_save(np.array([[True, False, True]])), [[1, 0, 1]])


def test_colors_are_looked_up():
    pixels = np.array(
        [[COLORS[1], COLORS[2]], [COLORS[0], (10, 20, 31)]], np.uint8
    )
    expected = [[1, 255], [0, -1]]
    _check(_save(pixels), expected)
    alpha = np.full([2, 2, 1], 77, np.uint8)
    _check(_save(np.concatenate([pixels, alpha], -1)), expected)


def test_colors_of_the_extremes_and_duplicates():
    pixels = np.array([[(255, 255, 255), (0, 0, 0), (5, 5, 5)]], np.uint8)
    colors = [(0, 0, 0), (255, 255, 255), (0, 0, 0)]
    code = mask_code.MaskCode(colors, (4, 5, 6))
    label = decode.decode_label(_save(pixels), code)
    np.testing.assert_array_equal(label, [[5, 4, -1]])
    label = decode.decode_label(_save(pixels), mask_code.MaskCode())
    np.testing.assert_array_equal(label, [[-1, -1, -1]])


def test_values_are_looked_up():
    # Cityscapes' way: ids 7 and 8 are classes, others count nowhere.
    table = mask_code.index_labels({7: 0, 8: 1}, ignored=range(7))
    code = mask_code.MaskCode((), (), table)
    values = np.array([[7, 8, 0, 6, 9, 255]], np.uint8)
    for contents in (_save(values), _png(values, 8, [(1, 2, 3)] * 256)):
        label = decode.decode_label(contents, code)
        np.testing.assert_array_equal(label, [[0, 1, 255, 255, -1, 255]])


def test_parallel_map_in_tf_data():
    files, expected = [], []
    for i in range(40):
        bits = 2 ** (i % 4)
        values = _values((3 + i % 5, 4 + i % 3), 2**bits, seed=i)
        palette = [(i, 0, 0)] * 2**bits if i % 2 else None
        files.append(_png(values, bits, palette))
        expected.append(values)
    files.append(_save(np.full([2, 2, 3], COLORS[1], np.uint8)))
    expected.append(np.ones([2, 2]))
    data = tf.data.Dataset.from_tensor_slices(files)
    data = data.map(_decode, num_parallel_calls=4)
    assert data.element_spec == tf.TensorSpec([None, None], tf.int32)
    for label, values in zip(data, expected):
        np.testing.assert_array_equal(label, values)


def _bad_masks():
    good = _png(_values((9, 9), 16), 4, [(7, 7, 7)] * 16)
    data = good.index(b"IDAT")
    flipped = bytearray(good)
    flipped[17] ^= 1
    return {
        "empty": (b"", "not a PNG"),
        "jpeg": (_save(np.zeros([8, 8], np.uint8), "JPEG"), "not a PNG"),
        "header": (good[:30], "not a PNG"),
        "16 bits": (_save(np.zeros([4, 4], np.uint16)), "16 bits"),
        "no data": (good[: data - 4], None),
        "cut": (good[: data + 10], None),
        "header CRC": (bytes(flipped), None),
        "length": (good[: data - 4] + b"\xff" * 20, None),
    }


@pytest.mark.parametrize("name", _bad_masks())
def test_bad_mask_is_refused(name):
    contents, message = _bad_masks()[name]
    data = tf.data.Dataset.from_tensors(contents).map(_decode)
    for function in (_decode, _traced, lambda _: list(data)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            function(contents)


@pytest.mark.parametrize("palette", [((1, 2, 3), (3, 2, 1)), [(5, 5, 5)] * 256])
def test_encoded_label_comes_back(palette):
    values = _values((5, 8), 256).astype(np.uint8)
    contents = decode.encode_label(values, palette)
    _check(contents, values)
    image = Image.open(io.BytesIO(contents))
    assert image.mode == "P" and contents[24] == 8
    colors = np.array(image.getpalette()).reshape(256, 3)
    np.testing.assert_array_equal(colors[: len(palette)], palette)
    if len(palette) < 256:
        assert tuple(colors[255]) == (224, 224, 192)


def test_encode_refuses_other_arrays():
    with pytest.raises(ValueError, match=r"uint8 \[H, W\].*int64"):
        decode.encode_label(np.zeros([2, 2], np.int64), [])
    with pytest.raises(ValueError, match=r"uint8 \[H, W\].*\(2, 2, 1\)"):
        decode.encode_label(np.zeros([2, 2, 1], np.uint8), [])
    with pytest.raises(ValueError, match="256 colors. Received: 257"):
        decode.encode_label(np.zeros([2, 2], np.uint8), [(0, 0, 0)] * 257)


def _image(shape, seed=0):
    # Smooth, so that two JPEG decoders agree closely.
    small = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return small.repeat(8, 0).repeat(8, 1)


_decode_traced = tf.function(
    decode.decode_image, input_signature=[tf.TensorSpec([], tf.string)]
)


def _check_image(contents, tolerance=0):
    with Image.open(io.BytesIO(contents)) as image:
        if image.mode == "I;16":
            values = np.array(image) >> 8
            expected = np.repeat(values[..., None], 3, -1)
        else:
            expected = np.array(image.convert("RGBA").convert("RGB"))
    for image in (decode.decode_image(contents), _decode_traced(contents)):
        assert image.dtype == tf.uint8
        difference = np.abs(image.numpy().astype(int) - expected)
        assert difference.max() <= tolerance
    shape = _decode_traced.get_concrete_function().structured_outputs.shape
    assert shape.as_list() == [None, None, 3]


@pytest.mark.parametrize("mode, depth", [("L", 0), ("RGB", 3), ("CMYK", 4)])
def test_jpeg_is_rgb(mode, depth):
    shape = (3, 5, depth) if depth else (3, 5)
    contents = _save(_image(shape), "JPEG", mode, quality=95)
    # CMYK to RGB is no standard: the decoders round differently.
    _check_image(contents, tolerance=4)


@pytest.mark.parametrize(
    "mode, depth", [("1", 0), ("L", 0), ("LA", 2), ("RGB", 3), ("RGBA", 4)]
)
def test_png_is_rgb(mode, depth):
    image = _image((3, 5, depth) if depth else (3, 5))
    if mode == "1":
        _check_image(_save(image > 99))
    else:
        _check_image(_save(image, "PNG", mode))


def test_palette_and_16_bit_png_are_rgb():
    values = _values((9, 6), 16)
    palette = np.random.default_rng(1).integers(0, 256, [16, 3]).tolist()
    _check_image(_png(values, 4, palette))
    _check_image(_png(values, 4, palette, extra=[(b"tRNS", bytes(16))]))
    _check_image(_save((values * 4000).astype(np.uint16)))
