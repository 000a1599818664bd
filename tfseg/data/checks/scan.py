# SPDX-License-Identifier: Apache-2.0
"""Decodes every image and mask, for what a header does not tell."""

import functools
import hashlib
import io

import numpy as np
import tensorflow as tf
from PIL import Image

from tfseg import mask_code
from tfseg.data import check, decode
from tfseg.data.checks import duplicates, mask_guess

_ORIENTATION = 0x0112
# EXIF orientation -> what a viewer does before it shows the image.
_TURNS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored and turned by 180 degrees",
    5: "mirrored and turned by 90 degrees",
    6: "turned by 90 degrees",
    7: "mirrored and turned by 90 degrees",
    8: "turned by 90 degrees",
}
_PNG = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH = 24


def scan_images(paths):
    """Decodes images.

    Args:
      paths: of images whose headers have no finding.

    Returns:
      (list of duplicates.Fingerprint, None where an image is damaged; list of
      check.Finding).
    """
    results, damaged = check.check_all(_scan_image, paths, "images")
    findings = [
        finding for result in results if result for finding in result[1]
    ]
    return [result and result[0] for result in results], damaged + findings


def scan_masks(paths, code, num_classes, ignore_label=255):
    """Decodes masks.

    Args:
      paths: of masks without a finding.
      code: mask_code.MaskCode.
      num_classes: labels are 0..num_classes - 1, or `ignore_label`.
      ignore_label: counts nowhere.

    Returns:
      (list of digests of the labels, None where a mask cannot be read any
      more; list of check.Finding).
    """
    scan = functools.partial(
        _scan_mask,
        read=_reader(code),
        num_classes=num_classes,
        ignore_label=ignore_label,
    )
    results, unreadable = check.check_all(scan, paths, "pixels of masks")
    findings = [
        finding for result in results if result for finding in result[1]
    ]
    return [result and result[0] for result in results], unreadable + findings


def _scan_image(path):
    contents, image = check.read_image(path)
    found = (
        _turned(path, contents),
        _deep(path, contents, image),
        _cmyk(path, contents),
    )
    return duplicates.fingerprint(image), [x for x in found if x]


def _turned(path, contents):
    with Image.open(io.BytesIO(contents)) as image:
        try:
            orientation = image.getexif().get(_ORIENTATION)
        except (OSError, SyntaxError, ValueError):
            return None  # EXIF that no viewer understands.
    if orientation not in _TURNS:
        return None
    return check.Finding(
        path,
        orientation,
        f"EXIF orientation {orientation}: viewers show it "
        f"{_TURNS[orientation]}, but here pixels count as they are stored, "
        "and a mask must match them",
        "store the pixels turned and drop the tag, as "
        "PIL.ImageOps.exif_transpose does, then see whether the mask fits",
        "turned",
    )


def _deep(path, contents, image):
    if not contents.startswith(_PNG) or contents[_BIT_DEPTH] != 16:
        return None
    levels = len(np.unique(image))
    return check.Finding(
        path,
        levels,
        "has 16 bits a channel, of which the upper 8 are kept: "
        f"{levels} levels are left",
        "map the range that is used to 0..255 and save 8 bits",
        "deep_image",
    )


def _cmyk(path, contents):
    with Image.open(io.BytesIO(contents)) as image:
        if image.mode != "CMYK":
            return None
    return check.Finding(
        path,
        "CMYK",
        "holds CMYK, which is made RGB without its color profile, so that "
        "colors differ from those in a viewer",
        "save it as RGB",
        "cmyk_image",
    )


def _reader(code):
    """Function: bytes of a mask -> (labels, values as stored)."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def read(contents):
        with tf.device("CPU"):
            label = decode.decode_label(contents, code)
            if code.index_labels == mask_code.MaskCode.index_labels:
                return label, label
            return label, decode.decode_label(contents, mask_code.MaskCode())

    return read


def _scan_mask(path, *, read, num_classes, ignore_label):
    with open(path, "rb") as file:
        contents = file.read()
    label, values = (x.numpy().astype(np.uint8) for x in read(contents))
    digest = hashlib.sha256(label.tobytes()).digest()
    found = (
        _lossy(path, values),
        _binary(path, label, values, num_classes, ignore_label),
    )
    return digest, [x for x in found if x]


def _lossy(path, values):
    if not mask_guess.looks_lossy(values):
        return None
    number = np.count_nonzero(np.bincount(values.ravel()))
    looks, fix = mask_guess.LOSSY
    return check.Finding(
        path,
        number,
        f"holds {number} different ids, many of them only on borders between "
        f"others; {looks}",
        fix,
        "lossy_mask",
    )


def _binary(path, label, values, num_classes, ignore_label):
    """0 and 255 where a mask of two classes should have 0 and 1."""
    if num_classes > 2:
        return None
    stored = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    if stored.tolist() != [0, 255] or label.max() != ignore_label:
        return None
    return check.Finding(
        path,
        (0, 255),
        "holds nothing but 0 and 255, and 255 = ignored "
        f"({np.mean(values == 255):.1%} of the pixels)",
        "if 255 stands for the second class, save it as 1",
        "binary_255",
    )
