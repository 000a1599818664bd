# SPDX-License-Identifier: Apache-2.0
"""Bytes of image and mask files to tensors, inside tf.data or eagerly.

`tf.io.decode_png` cannot read an index mask: it expands a palette to RGB and
stretches gray of 1, 2 and 4 bits to 0..255. But the pixel data of a palette
PNG is, bit for bit, that of a gray PNG of the same depth. So a mask is decoded
as what it would be with another color type in its header, and the stretching
is undone.
"""

import io
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

from tfseg import mask_code

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Offsets in a PNG: 8 bytes of signature, then the chunk IHDR (length, type,
# 13 bytes of data, CRC), then the other chunks.
_IHDR, _BIT_DEPTH, _COLOR_TYPE, _IHDR_CRC, _CHUNKS = 8, 24, 25, 29, 33
_GRAY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6
# NumPy, as a tensor would start TensorFlow before its devices are configured;
# objects, as its byte strings lose a zero at the end.
_BYTES = np.array([bytes([value]) for value in range(256)], object)
_IGNORE_COLOR = (224, 224, 192)


def _crc_change():
    """What a CRC of IHDR is XORed with when its color type turns 3 to 0.

    A CRC is affine: for equal lengths the change depends on the changed bits
    and their place alone.
    """
    zeros = bytearray(17)
    changed = bytearray(17)
    changed[_COLOR_TYPE - _IHDR - 4] = _PALETTE
    return (zlib.crc32(zeros) ^ zlib.crc32(changed)).to_bytes(4, "big")


_CRC_CHANGE = np.frombuffer(_crc_change(), np.uint8)


def decode_image(contents):
    """Decodes a JPEG or PNG to RGB.

    Args:
      contents: string scalar, a file. Gray becomes RGB, alpha is dropped, of
        16 bits the upper 8 are kept.

    Returns:
      uint8 [H, W, 3].
    """
    return tf.io.decode_image(contents, channels=3, expand_animations=False)


def decode_label(contents, code):
    """Decodes a PNG mask to labels.

    Args:
      contents: string scalar, a PNG file: gray or palette of up to 8 bits
        (what counts is the stored value, whatever the palette), or RGB(A).
      code: mask_code.MaskCode; of equal colors the first counts.

    Returns:
      int32 [H, W]; -1 where the color or the value is not in the code.

    Raises:
      tf.errors.InvalidArgumentError: not a PNG, damaged, or 16 bits.
    """
    contents = _checked_png(contents)
    header = tf.io.decode_raw(
        tf.strings.substr(contents, 0, _CHUNKS), tf.uint8, fixed_length=33
    )
    color_type = header[_COLOR_TYPE]
    colored = tf.logical_or(color_type == _RGB, color_type == _RGBA)
    label = tf.cond(
        colored,
        lambda: _decode_colors(contents, code),
        lambda: _decode_indices(contents, header, code),
    )
    return tf.ensure_shape(label, [None, None])


def encode_label(label, palette):
    """Encodes labels as a palette PNG of 8 bits.

    Args:
      label: uint8 array [H, W].
      palette: RGB of the labels 0, 1, ...; at most 256. Other labels are
        black, 255 is light gray unless the palette says otherwise.

    Returns:
      bytes of a PNG file.

    Raises:
      ValueError: another type or rank, or more than 256 colors.
    """
    label = np.asarray(label)
    if label.dtype != np.uint8 or label.ndim != 2:
        raise ValueError(
            "`label` must be uint8 [H, W]. Received: "
            f"{label.dtype} {label.shape}."
        )
    if len(palette) > 256:
        raise ValueError(
            "`palette` must have at most 256 colors. "
            f"Received: {len(palette)}."
        )
    colors = np.zeros([256, 3], np.uint8)
    colors[255] = _IGNORE_COLOR
    colors[: len(palette)] = np.reshape(palette, [-1, 3])
    image = Image.fromarray(label)
    image.putpalette(colors.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _checked_png(contents):
    """`contents` behind assertions, which run before anything is cut out."""
    signature = tf.strings.substr(contents, 0, len(_SIGNATURE))
    is_png = tf.debugging.Assert(
        (signature == _SIGNATURE) & (tf.strings.length(contents) >= _CHUNKS),
        ["The mask is not a PNG file, or cut off in its header."],
    )
    with tf.control_dependencies([is_png]):
        contents = tf.identity(contents)
    is_narrow = tf.debugging.Assert(
        tf.strings.substr(contents, _BIT_DEPTH, 1) != b"\x10",
        ["The mask has 16 bits a channel; save it with 8 bits."],
    )
    with tf.control_dependencies([is_narrow]):
        return tf.identity(contents)


def _decode_indices(contents, header, code):
    bits = tf.cast(header[_BIT_DEPTH], tf.int32)
    gray = tf.io.decode_png(_as_gray(contents, header), channels=1)
    values = tf.cast(gray[..., 0], tf.int32)
    stretch = 255 // (tf.bitwise.left_shift(1, bits) - 1)
    # Nearly all masks have 8 bits, and a division of whole numbers is slow.
    values = tf.cond(stretch == 1, lambda: values, lambda: values // stretch)
    if code.index_labels == mask_code.MaskCode.index_labels:
        return values
    return tf.gather(tf.constant(code.index_labels, tf.int32), values)


def _as_gray(contents, header):
    """The PNG as gray without ancillary chunks; gray+alpha stays as it is."""
    is_palette = header[_COLOR_TYPE] == _PALETTE
    color_type = tf.where(
        is_palette, tf.constant(_GRAY, tf.uint8), header[_COLOR_TYPE]
    )
    crc = header[_IHDR_CRC:_CHUNKS]
    crc = tf.where(is_palette, tf.bitwise.bitwise_xor(crc, _CRC_CHANGE), crc)
    values = tf.concat(
        [
            header[:_COLOR_TYPE],
            [color_type],
            header[_COLOR_TYPE + 1 : _IHDR_CRC],
            crc,
        ],
        0,
    )
    start = tf.strings.reduce_join(tf.gather(_BYTES, tf.cast(values, tf.int32)))
    return start + tf.strings.substr(contents, _first_data(contents), -1)


def _first_data(contents):
    """int64 scalar, where the first chunk IDAT begins.

    If there is none the result is the end of the file, and decoding fails.
    """
    size = tf.strings.length(contents)
    size = tf.cast(size, tf.int64)

    def next_chunk(place, found):
        del found
        head = tf.strings.substr(contents, place, 8)
        found = tf.strings.substr(head, 4, 4) == b"IDAT"
        length = tf.io.decode_raw(
            tf.strings.substr(head, 0, 4), tf.uint8, fixed_length=4
        )
        powers = tf.constant([2**24, 2**16, 2**8, 1], tf.int64)
        length = tf.reduce_sum(tf.cast(length, tf.int64) * powers)
        return tf.where(found, place, place + 12 + length), found

    place, found = tf.while_loop(
        lambda place, found: tf.logical_and(~found, place + 8 <= size),
        next_chunk,
        [tf.constant(_CHUNKS, tf.int64), tf.constant(False)],
    )
    return tf.where(found, place, size)


def _decode_colors(contents, code):
    pixels = tf.cast(tf.io.decode_png(contents, channels=3), tf.int32)
    color_labels = tf.constant(code.color_labels, tf.int32)
    codes = _code(tf.reshape(tf.constant(code.colors, tf.int32), [-1, 3]))
    order = tf.argsort(codes, stable=True)
    # One code above all others catches what is not there, also for K = 0.
    codes = tf.concat([tf.gather(codes, order), [2**24]], 0)
    labels = tf.concat([tf.gather(color_labels, order), [-1]], 0)
    wanted = tf.reshape(_code(pixels), [-1])
    place = tf.searchsorted(codes, wanted)
    label = tf.where(
        tf.gather(codes, place) == wanted, tf.gather(labels, place), -1
    )
    return tf.reshape(label, tf.shape(pixels)[:2])


def _code(colors):
    """One int32 per color, unique."""
    return tf.reduce_sum(colors * tf.constant([2**16, 2**8, 1]), -1)
