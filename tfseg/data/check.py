# SPDX-License-Identifier: Apache-2.0
"""Looks at the files before training, to name what is wrong with them."""

import contextlib
import dataclasses
import functools
import io
import multiprocessing.pool
import os
import struct

import numpy as np
import tensorflow as tf
import tqdm
from PIL import Image

from tfseg import id_lists, mask_code
from tfseg.data import decode

_SHOWN = 10
_TAIL = 1024
_PADDING = b"\0 \t\r\n\xff"
# MPO is a JPEG that holds further pictures, as phones save it.
_FORMATS = ("JPEG", "MPO", "PNG")
_SAVE_AGAIN = "get the file again, or remove it"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A file, what was found in it, what is wrong with that, what to do."""

    file: str
    value: object
    message: str
    fix: str

    def __str__(self):
        return f"{self.file}: {self.message}. Fix: {self.fix}."


class _Refused(Exception):
    """Carries (value, message, fix) out of the check of one file."""


def raise_on(findings):
    """Raises ValueError with the first findings, if there are any."""
    lines = [str(finding) for finding in findings[:_SHOWN]]
    if len(findings) > _SHOWN:
        lines.append(f"... and {len(findings) - _SHOWN} more files")
    if lines:
        raise ValueError("\n".join(lines))


def check_images(paths, *, max_pixels):
    """Reads the headers and the ends of image files.

    Args:
      paths: of JPEG and PNG files.
      max_pixels: the most pixels that an image may have.

    Returns:
      (int32 [N, 2], height and width as stored, 0 where there is a finding;
      list of Finding).
    """
    check = functools.partial(_check_image, max_pixels=max_pixels)
    results, findings = _check_all(check, paths, "image headers")
    sizes = [(0, 0) if size is None else size for size in results]
    return np.array(sizes, np.int32).reshape(-1, 2), findings


def check_labels(
    image_paths,
    label_paths,
    sizes,
    *,
    code,
    num_classes,
    ignore_label=255,
):
    """Decodes all masks and counts the pixels of each class.

    Args:
      image_paths: one for each mask, for messages.
      label_paths: of PNG files.
      sizes: int [N, 2], height and width of each image; a mask whose image
        has a finding, so that its size is 0, is left out.
      code: mask_code.MaskCode.
      num_classes: labels are 0..num_classes - 1, or `ignore_label`.
      ignore_label: counts nowhere.

    Returns:
      (int64 [N, num_classes], pixels, 0 where there is a finding; list of
      Finding).
    """
    check = functools.partial(
        _check_label,
        histogram=_histogram(code),
        code=code,
        num_classes=num_classes,
        ignore_label=ignore_label,
    )
    jobs = [
        (label, image, (int(size[0]), int(size[1])))
        for image, label, size in zip(image_paths, label_paths, sizes)
        if size[0]
    ]
    results, findings = _check_all(check, jobs, "masks")
    counts = np.zeros([len(label_paths), num_classes], np.int64)
    usable = np.flatnonzero(np.asarray(sizes).reshape(-1, 2)[:, 0])
    for row, result in zip(usable, results):
        if result is not None:
            counts[row] = result
    return counts, findings


def find_undecodable(image_paths):
    """Decodes images fully to find what stopped the pipeline: Findings."""
    return _check_all(_check_decodes, image_paths, "images")[1]


def _check_all(check, jobs, name):
    """([result or None], [Finding]) of `check(job)` in threads, in order.

    A job is a path, or a tuple that begins with one.
    """

    def run(job):
        path = job if isinstance(job, str) else job[0]
        try:
            return check(job), None
        except _Refused as refused:
            return None, Finding(path, *refused.args)
        except OSError as error:
            reason = error.strerror or str(error)
            return None, Finding(
                path, reason, f"cannot be read: {reason}", _SAVE_AGAIN
            )

    # On a terminal alone, and not before some seconds have passed.
    bar = functools.partial(tqdm.tqdm, desc=name, disable=None, delay=3)
    pool = multiprocessing.pool.ThreadPool(2 * (os.cpu_count() or 1))
    with pool, _no_pixel_limit_of_pillow():
        answers = list(bar(pool.imap(run, jobs, 16), total=len(jobs)))
    findings = [finding for _, finding in answers if finding]
    return [result for result, _ in answers], findings


@contextlib.contextmanager
def _no_pixel_limit_of_pillow():
    """Ours names a setting, and Pillow's warns of images below it."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_image(path, *, max_pixels):
    """(height, width) of a proper image."""
    with open(path, "rb") as file:
        width, height = _read_size(file)
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        tail = file.read()
    if width * height > max_pixels:
        raise _Refused(
            (height, width),
            f"has {width} x {height} = {width * height:,} pixels, more than "
            f"`config.data.max_pixels` = {max_pixels:,}",
            "scale or cut the image, or raise the limit",
        )
    whole = tail.rstrip(_PADDING).endswith(b"\xff\xd9")
    if not whole and b"IEND\xaeB`\x82" not in tail:
        # Cut off, or a camera has put data of its own behind the end.
        _check_decodes(path)
    return height, width


def _read_size(file):
    try:
        with Image.open(file) as image:
            if image.format in _FORMATS:
                return image.size
            found = f"is a {image.format} file"
    except (OSError, SyntaxError, ValueError, struct.error):
        file.seek(0)
        found = "is not an image" if file.read(1) else "is empty"
    raise _Refused(found, found, "save it as JPEG or PNG, or remove it")


def _check_decodes(path):
    with open(path, "rb") as file:
        contents = file.read()
    try:
        decode.decode_image(contents)
    except tf.errors.InvalidArgumentError:
        raise _damaged(contents) from None


def _damaged(contents):
    message = f"is truncated or damaged ({len(contents):,} bytes)"
    return _Refused(len(contents), message, _SAVE_AGAIN)


def _histogram(code):
    """Function: bytes of a mask -> int32 [257], pixels of -1, 0, ..., 255."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def histogram(contents):
        with tf.device("CPU"):
            label = decode.decode_label(contents, code)
            return tf.math.bincount(label + 1, minlength=257, maxlength=257)

    return histogram


def _check_label(job, *, histogram, code, num_classes, ignore_label):
    """int64 [num_classes], pixels of each class in a proper mask."""
    path, image_path, size = job
    with open(path, "rb") as file:
        contents = file.read()
    _check_mask_header(contents, image_path, size)
    try:
        counts = histogram(contents).numpy().astype(np.int64)
    except tf.errors.InvalidArgumentError:
        raise _damaged(contents) from None
    if counts[0]:
        raise _Refused(*_unknown_pixels(contents, code))
    counts = counts[1:]
    strange = np.flatnonzero(counts).tolist()
    strange = [i for i in strange if i >= num_classes and i != ignore_label]
    if strange:
        ids = id_lists.shorten(strange)
        pixels = id_lists.shorten(counts[strange])
        raise _Refused(
            tuple(strange),
            f"holds ids {ids} outside 0..{num_classes - 1} (and "
            f"{ignore_label} = ignore), in {pixels} pixels",
            "correct the mask, or list all classes in classes.txt",
        )
    return counts[:num_classes]


def _check_mask_header(contents, image_path, size):
    """Refuses before decoding what need not or must not be decoded."""
    if not contents:
        raise _Refused("is empty", "is empty", _SAVE_AGAIN)
    if contents.startswith(b"\xff\xd8"):
        raise _Refused(
            "JPEG",
            "is a JPEG; that is lossy and changes labels at borders",
            "save the original mask as PNG",
        )
    if not contents.startswith(b"\x89PNG\r\n\x1a\n") or len(contents) < 33:
        raise _Refused("no PNG", "is not a PNG file", "save the mask as PNG")
    width, height, bits = struct.unpack(">IIB", contents[16:25])
    if bits == 16:
        raise _Refused(
            bits,
            "has 16 bits a channel",
            "save it with 8 bits; labels are 0..254, 255 = ignore",
        )
    if (height, width) != size:
        raise _Refused(
            (height, width),
            f"is {width} x {height} pixels (width x height) but its image "
            f"{image_path} is {size[1]} x {size[0]}, as stored, before any "
            "EXIF orientation",
            "save the two in the same size",
        )


def _unknown_pixels(contents, code):
    with Image.open(io.BytesIO(contents)) as image:
        if image.mode in ("RGB", "RGBA"):
            pixels = np.asarray(image.convert("RGB"), np.int32)
            return _unknown_colors(pixels, code.colors)
    values = decode.decode_label(contents, mask_code.MaskCode()).numpy()
    return _unknown_values(values, code)


def _unknown_values(values, code):
    values, counts = np.unique(values, return_counts=True)
    unknown = np.asarray(code.index_labels)[values] < 0
    found = values[unknown].tolist()
    return (
        tuple(found),
        f"holds values that are no class of this data set: "
        f"{id_lists.shorten(found)}, in {id_lists.shorten(counts[unknown])} "
        "pixels",
        "get the original mask again, or remove the image",
    )


def _unknown_colors(pixels, colors):
    powers = np.array([2**16, 2**8, 1])
    codes, counts = np.unique(pixels @ powers, return_counts=True)
    unknown = ~np.isin(codes, np.asarray(colors, np.int32) @ powers)
    codes, counts = codes[unknown], counts[unknown]
    order = np.argsort(-counts, kind="stable")
    found = [
        (code >> 16, code >> 8 & 255, code & 255)
        for code in codes[order].tolist()
    ]
    shown = id_lists.shorten(found)
    pixels = id_lists.shorten(counts[order])
    return (
        tuple(found),
        f"holds colors that are not in the palette: {shown}, in {pixels} "
        "pixels",
        "give each class its color in classes.txt (`name r g b`), or save "
        "the mask as index PNG",
    )
