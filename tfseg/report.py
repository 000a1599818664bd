# SPDX-License-Identifier: Apache-2.0
"""Pictures of predictions, for TensorBoard and for people."""

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

_GAP = 4
_TITLE = 16
# Of one panel in TensorBoard: four panels of a photograph as it is would be
# hundreds of megabytes.
_MOST_PIXELS_A_SIDE = 512


def colorize(label, info):
    """Paints classes with the palette, ignored pixels white.

    Args:
      label: int [H, W], class or 255.
      info: datasets.base.Info.

    Returns:
      uint8 [H, W, 3].
    """
    colors = np.full([256, 3], 255, np.uint8)
    colors[: info.num_classes] = info.palette
    return colors[np.asarray(label).astype(np.uint8)]


def pictures(predictor, examples, info):
    """One strip an image: input | truth | prediction | confidence.

    Args:
      predictor: inference.Predictor.
      examples: iterable of (uint8 [1, H, W, 3], int32 [1, H, W]).
      info: datasets.base.Info.

    Returns:
      uint8 [N, h, w, 3]; a panel has at most 512 pixels a side (every n-th
      pixel of a larger image), smaller images are padded with white.
    """
    strips = []
    for image, label in examples:
        prob = predictor(image)[0].numpy()
        confidence = (prob.max(-1, keepdims=True) * 255).astype(np.uint8)
        panels = [
            image[0].numpy(),
            colorize(label[0], info),
            colorize(prob.argmax(-1), info),
            np.repeat(confidence, 3, -1),
        ]
        step = -(-max(panels[0].shape[:2]) // _MOST_PIXELS_A_SIDE)
        strips.append(np.concatenate([x[::step, ::step] for x in panels], 1))
    return _same_size(strips)


def _same_size(images):
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    return np.stack(
        [
            np.pad(
                image,
                [
                    [0, height - image.shape[0]],
                    [0, width - image.shape[1]],
                    [0, 0],
                ],
                constant_values=255,
            )
            for image in images
        ]
    )


def comparison(examples, predictors, info, *, panel=160):
    """Rows: images; columns: image, truth, then one a predictor.

    Args:
      examples: iterable of (uint8 [1, H, W, 3], int32 [1, H, W]).
      predictors: {title: inference.Predictor}.
      info: datasets.base.Info.
      panel: side of a panel, pixels.

    Returns:
      PIL.Image.
    """
    titles = ["image", "truth", *predictors]
    rows = []
    for image, label in examples:
        predictions = [
            tf.argmax(predictor(image)[0], -1).numpy()
            for predictor in predictors.values()
        ]
        rows.append(
            [image[0].numpy()]
            + [colorize(x, info) for x in [label[0].numpy(), *predictions]]
        )
    side = panel + _GAP
    canvas = Image.new(
        "RGB", (side * len(titles), side * len(rows) + _TITLE), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((column * side + 2, 2), title, fill="black")
        for row, panels in enumerate(rows):
            picture = Image.fromarray(panels[column])
            picture = picture.resize((panel, panel), Image.NEAREST)
            canvas.paste(picture, (column * side, row * side + _TITLE))
    return canvas
