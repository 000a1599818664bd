# SPDX-License-Identifier: Apache-2.0
"""Small pictures of images and masks, good or broken, as data URIs."""

import base64
import io

import numpy as np
import tensorflow as tf
from PIL import Image

from tfseg.data import check, decode

# Longest side of a panel, pixels.
PANEL = 240
_WRONG = (255, 0, 255)
_OUTSIDE = 254
_QUALITY = 82
_WEIGHT = 0.5


def of_record(record, info, code):
    """Image, and the mask over the image in gray.

    Pixels that are no class are magenta, ignored ones are left as they are. A
    mask of another size than the image stands alone.

    Args:
      record: datasets.base.Record.
      info: datasets.base.Info.
      code: mask_code.MaskCode.

    Returns:
      list of data URIs of JPEGs, without what cannot be read.
    """
    image = _read(record.image)
    label = _read_label(record.label, info, code) if record.label else None
    panels = [] if image is None else [image]
    if label is not None:
        same = image is not None and image.shape[:2] == label.shape
        panels.append(_overlay(image if same else None, label, info))
    return [_data_uri(panel) for panel in panels]


def of_images(paths):
    """Images alone: see `of_record`."""
    images = [_read(path) for path in paths]
    return [_data_uri(image) for image in images if image is not None]


def _read(path):
    try:
        return check.read_image(path)[1]
    except (check.Refused, OSError):
        return None


def _read_label(path, info, code):
    """uint8 [H, W], `_OUTSIDE` where there is no class; None = no mask."""
    try:
        label = decode.decode_label(tf.io.read_file(path), code).numpy()
    except (tf.errors.OpError, OSError):
        return None
    known = (label >= 0) & (label < info.num_classes)
    known |= label == info.ignore_label
    return np.where(known, label, _OUTSIDE).astype(np.uint8)


def _overlay(image, label, info):
    colors = np.zeros([256, 3], np.float32)
    colors[: info.num_classes] = info.palette
    colors[_OUTSIDE] = _WRONG
    weight = np.full([256, 1], _WEIGHT, np.float32)
    weight[_OUTSIDE] = 1
    weight[info.ignore_label] = 0
    if image is None:
        image = np.full([*label.shape, 3], 255, np.uint8)
        weight[weight > 0] = 1
    # Scaled down first: a photograph has a hundred times the pixels.
    size = _scaled(label.shape)
    image = _resized(image, size, Image.Resampling.BOX)
    # In gray, so that the colors are those of classes.
    image = image.mean(-1, keepdims=True)
    label = _resized(label, size, Image.Resampling.NEAREST)
    share = weight[label]
    return (image * (1 - share) + colors[label] * share).astype(np.uint8)


def _scaled(shape):
    """(width, height) that fit a panel; small images grow by whole factors."""
    height, width = shape[:2]
    longest = max(height, width)
    scale = PANEL / longest if longest > PANEL else PANEL // longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(array, size, how):
    return np.asarray(Image.fromarray(array).resize(size, how))


def _data_uri(panel):
    panel = _resized(panel, _scaled(panel.shape), Image.Resampling.BOX)
    file = io.BytesIO()
    Image.fromarray(panel).save(file, "JPEG", quality=_QUALITY, subsampling=0)
    text = base64.b64encode(file.getvalue()).decode()
    return f"data:image/jpeg;base64,{text}"
