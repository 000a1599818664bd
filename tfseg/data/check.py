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
from tfseg.data.checks import kinds, mask_guess

_SHOWN = 10
_TAIL = 1024
_PADDING = b"\0 \t\r\n\xff"
# MPO is a JPEG that holds further pictures, as phones save it.
_FORMATS = ("JPEG", "MPO", "PNG")
_SAVE_AGAIN = "get the file again, or remove it"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A file, what was found in it, what is wrong with that, what to do.

    `kind` is a key of `tfseg.data.checks.kinds.KINDS`.
    """

    file: str
    value: object
    message: str
    fix: str
    kind: str

    @property
    def severity(self):
        return kinds.KINDS[self.kind][0]

    def __str__(self):
        return f"{self.file}: {self.message}. Fix: {self.fix}."


class Refused(Exception):
    """Carries (kind, value, message, fix) out of the check of one file."""


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
    results, findings = check_all(check, paths, "image headers")
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
    results, findings = check_all(check, jobs, "masks")
    counts = np.zeros([len(label_paths), num_classes], np.int64)
    usable = np.flatnonzero(np.asarray(sizes).reshape(-1, 2)[:, 0])
    for row, result in zip(usable, results):
        if result is not None:
            counts[row] = result
    return counts, findings


def find_undecodable(image_paths):
    """Decodes images fully to find what stopped the pipeline: Findings."""

    def check(path):
        read_image(path)  # And forget it.

    return check_all(check, image_paths, "images")[1]


def read_image(path):
    """Reads and decodes an image as the pipeline does.

    Returns:
      (bytes of the file, uint8 array [H, W, 3]).

    Raises:
      Refused: the image is truncated or damaged.
    """
    with open(path, "rb") as file:
        contents = file.read()
    try:
        return contents, decode.decode_image(contents).numpy()
    except tf.errors.InvalidArgumentError:
        raise _damaged(contents) from None


def check_all(check, jobs, name):
    """Runs a check of each file in threads.

    Args:
      check: function of a job; may raise Refused or OSError.
      jobs: list of paths, or of tuples that begin with one.
      name: of the progress bar.

    Returns:
      (list of what `check` returned, None where it raised; list of Finding),
      both in the order of the jobs.
    """

    def run(job):
        path = job if isinstance(job, str) else job[0]
        try:
            return check(job), None
        except Refused as refused:
            kind, value, message, fix = refused.args
            return None, Finding(path, value, message, fix, kind)
        except OSError as error:
            reason = error.strerror or str(error)
            message = f"cannot be read: {reason}"
            return None, Finding(
                path, reason, message, _SAVE_AGAIN, "unreadable"
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
        raise Refused(
            "too_large",
            (height, width),
            f"has {width} x {height} = {width * height:,} pixels, more than "
            f"`config.data.max_pixels` = {max_pixels:,}",
            "scale or cut the image, or raise the limit",
        )
    whole = tail.rstrip(_PADDING).endswith(b"\xff\xd9")
    if not whole and b"IEND\xaeB`\x82" not in tail:
        # Cut off, or a camera has put data of its own behind the end.
        read_image(path)
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
    fix = "save it as JPEG or PNG, or remove it"
    raise Refused("no_image", found, found, fix)


def _damaged(contents):
    message = f"is truncated or damaged ({len(contents):,} bytes)"
    return Refused("damaged", len(contents), message, _SAVE_AGAIN)


def _histogram(code):
    """Function: bytes of a mask -> int32 [257], pixels of -1, 0, ..., 255."""

    @tf.function(
        input_signature=[tf.TensorSpec([], tf.string)], autograph=False
    )
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
        raise Refused(*_unknown_pixels(contents, code, num_classes))
    counts = counts[1:]
    strange = np.flatnonzero(counts).tolist()
    strange = [i for i in strange if i >= num_classes and i != ignore_label]
    if strange:
        raise Refused(
            *_unknown_ids(
                contents, code, num_classes, ignore_label, counts, strange
            )
        )
    return counts[:num_classes]


def _check_mask_header(contents, image_path, size):
    """Refuses before decoding what need not or must not be decoded."""
    if not contents:
        raise Refused("mask_format", "is empty", "is empty", _SAVE_AGAIN)
    if contents.startswith(b"\xff\xd8"):
        raise Refused(
            "mask_format",
            "JPEG",
            "is a JPEG; that is lossy and changes labels at borders",
            "save the original mask as PNG",
        )
    if not contents.startswith(b"\x89PNG\r\n\x1a\n") or len(contents) < 33:
        raise Refused(
            "mask_format",
            "no PNG",
            "is not a PNG file",
            "save the mask as PNG",
        )
    width, height, bits = struct.unpack(">IIB", contents[16:25])
    if bits == 16:
        raise Refused(
            "mask_format",
            bits,
            "has 16 bits a channel",
            "save it with 8 bits; labels are 0..254, 255 = ignore",
        )
    if (height, width) != size:
        raise Refused(
            "size_mismatch",
            (height, width),
            f"is {width} x {height} pixels (width x height) but its image "
            f"{image_path} is {size[1]} x {size[0]}, as stored, before any "
            "EXIF orientation",
            "save the two in the same size",
        )


def _unknown_ids(contents, code, num_classes, ignore_label, counts, strange):
    ids = id_lists.shorten(strange)
    pixels = id_lists.shorten(counts[strange])
    values = decode.decode_label(contents, mask_code.MaskCode()).numpy()
    return _explained(
        "unknown_ids",
        strange,
        f"holds ids {ids} outside 0..{num_classes - 1} (and {ignore_label} = "
        f"ignore), in {pixels} pixels",
        mask_guess.explain_ids(
            values.astype(np.uint8), code, num_classes, ignore_label
        ),
        "correct the mask, or list all classes in classes.txt",
    )


def _unknown_pixels(contents, code, num_classes):
    with Image.open(io.BytesIO(contents)) as image:
        if image.mode in ("RGB", "RGBA"):
            pixels = np.asarray(image.convert("RGB"), np.int32)
            return _unknown_colors(pixels, code.colors, num_classes)
    values = decode.decode_label(contents, mask_code.MaskCode()).numpy()
    return _unknown_values(values, code)


def _unknown_values(values, code):
    values, counts = np.unique(values, return_counts=True)
    unknown = np.asarray(code.index_labels)[values] < 0
    found = values[unknown].tolist()
    return (
        "unknown_ids",
        tuple(found),
        f"holds values that are no class of this data set: "
        f"{id_lists.shorten(found)}, in {id_lists.shorten(counts[unknown])} "
        "pixels",
        "get the original mask again, or remove the image",
    )


def _unknown_colors(pixels, colors, num_classes):
    powers = np.array([2**16, 2**8, 1])
    codes, counts = np.unique(pixels @ powers, return_counts=True)
    known = np.asarray(colors, np.int32).reshape(-1, 3) @ powers
    unknown = ~np.isin(codes, known)
    codes, counts = codes[unknown], counts[unknown]
    order = np.argsort(-counts, kind="stable")
    found = [
        (code >> 16, code >> 8 & 255, code & 255)
        for code in codes[order].tolist()
    ]
    shown = id_lists.shorten(found)
    in_pixels = id_lists.shorten(counts[order])
    return _explained(
        "unknown_colors",
        found,
        f"holds colors that are not in the palette: {shown}, in {in_pixels} "
        "pixels",
        mask_guess.explain_colors(pixels, colors, num_classes),
        "save the mask as index PNG, or, in a folder, give each class its "
        "color in classes.txt (`name r g b`)",
    )


def _explained(kind, value, message, guess, fix):
    """Arguments of Refused, with the guess where there is one."""
    if guess:
        looks, fix = guess
        message = f"{message}; {looks}"
    return kind, tuple(value), message, fix
