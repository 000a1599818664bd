# SPDX-License-Identifier: Apache-2.0
"""From images to class probabilities: whole, multi-scale, by windows, by tiles.

Scales and flips are applied to whatever the network is shown: the whole image,
or each window. A window is therefore a closed unit, and an image that is
processed band by band in bounded memory gives exactly what it gives at once.
"""

import numpy as np
import tensorflow as tf

# What fills a window that is larger than the image: the mean color of
# ImageNet, about zero to a network; training pads with it as well.
FILL_COLOR = (124.0, 116.0, 104.0)
AVERAGES = ("probabilities", "logits")


class Predictor:
    """Class probabilities of images of any size, in one trace.

    Args:
      network: callable (image float32 [B, H, W, 3] in [0, 255], training)
        -> logits [B, H, W, C] at input size.
      scales: sizes relative to the image at which the network looks at it.
      flip: also look at the mirrored image.
      average: what is averaged over scales, flips and windows,
        "probabilities" or "logits".
      window: 0 = whole image; else the size (height, width) or side of a
        window in pixels.
      overlap: fraction of a window that the next one covers again, [0, 1).
      batch: number of windows that the network is shown at a time.

    Raises:
      ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        network,
        *,
        scales=(1.0,),
        flip=False,
        average="probabilities",
        window=0,
        overlap=0.5,
        batch=4,
    ):
        window = (window, window) if np.ndim(window) == 0 else tuple(window)
        _check(scales, average, window, overlap, batch)
        self.network = network
        self.scales = tuple(float(scale) for scale in scales)
        self.flip = bool(flip)
        self.average = average
        self.window = window if any(window) else None
        self.overlap = float(overlap)
        self.batch = int(batch)
        # Traced for unknown sizes, once: a data set of photos has hundreds.
        spec = tf.TensorSpec([None, None, None, 3], tf.float32)
        self._scores = tf.function(
            self._look, input_signature=[spec], autograph=False
        )
        self._sums = tf.function(self._slide, input_signature=[spec])
        self._predict = tf.function(self._whole, input_signature=[spec])

    def __call__(self, images):
        """Probabilities of a batch of images of one size.

        Args:
          images: uint8 or float32 [B, H, W, 3] in [0, 255].

        Returns:
          float32 [B, H, W, C], sums to 1 over the classes.

        Raises:
          ValueError: if the shape is another one.
        """
        return self._predict(_image_batch(images))

    def settings(self):
        """How this predictor looks at images; JSON-able."""
        settings = {
            "scales": list(self.scales),
            "flip": self.flip,
            "average": self.average,
            "window": list(self.window) if self.window else 0,
        }
        if self.window:
            settings["overlap"] = self.overlap
        return settings

    def weighted_sums(self, images):
        """Window results times their blend weights, not yet normalized.

        Args:
          images: uint8 or float32 [B, H, W, 3] in [0, 255].

        Returns:
          float32 [B, H, W, C]; divide by `coverage` of both axes.
        """
        return self._sums(_image_batch(images))

    def starts(self, length, axis):
        """First pixels int32 [N] of the windows along one axis (0 or 1)."""
        window = self.window[axis]
        stride = self._stride(axis)
        num_strides = -(-tf.maximum(length - window, 0) // stride)
        # The last window ends where the image ends.
        last = tf.maximum(length - window, 0)
        return tf.minimum(tf.range(num_strides + 1) * stride, last)

    def coverage(self, length, axis):
        """Sum of the blend weights float32 [length] along one axis."""
        ramp = self._ramp(axis)
        starts = self.starts(length, axis)
        pixels = starts[:, None] + tf.range(self.window[axis])
        weights = tf.tile(ramp[None], [tf.size(starts), 1])
        padded = tf.maximum(length, self.window[axis])
        return tf.math.unsorted_segment_sum(weights, pixels, padded)[:length]

    def normalize(self, scores):
        """Averaged scores float32 [..., C] -> probabilities."""
        return tf.nn.softmax(scores) if self.average == "logits" else scores

    def _stride(self, axis):
        return max(1, round(self.window[axis] * (1.0 - self.overlap)))

    def _ramp(self, axis):
        """Blend weights of one window along one axis, in (0, 1]."""
        window = self.window[axis]
        shared = window - self._stride(axis)
        edge = np.minimum(np.arange(window), np.arange(window)[::-1])
        ramp = np.minimum(edge + 1, shared + 1) / (shared + 1)
        return tf.constant(ramp, tf.float32)

    def _whole(self, images):
        if self.window is None:
            return self.normalize(self._scores(images))
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        weights = self.coverage(height, 0)[:, None] * self.coverage(width, 1)
        return self.normalize(self._sums(images) / weights[..., None])

    def _look(self, images):
        """Mean scores over scales and flips."""
        scores = []
        for scale in self.scales:
            for flipped in (False, True)[: 1 + self.flip]:
                logits = self._logits(images, scale, flipped)
                as_is = self.average == "logits"
                scores.append(logits if as_is else tf.nn.softmax(logits))
        return tf.add_n(scores) / len(scores)

    def _logits(self, images, scale, flipped):
        size = tf.shape(images)[1:3]
        if scale != 1.0:
            scaled = tf.round(tf.cast(size, tf.float32) * scale)
            scaled = tf.maximum(tf.cast(scaled, tf.int32), 1)
            images = tf.image.resize(images, scaled)
        if flipped:
            images = tf.reverse(images, [2])
        logits = tf.cast(self.network(images, training=False), tf.float32)
        if flipped:
            logits = tf.reverse(logits, [2])
        return logits if scale == 1.0 else tf.image.resize(logits, size)

    def _slide(self, images):
        num_images, height, width = tf.unstack(tf.shape(images)[:3])
        images = _pad(images, *self.window)
        corners = tf.meshgrid(
            tf.range(num_images),
            self.starts(height, 0),
            self.starts(width, 1),
            indexing="ij",
        )
        corners = tf.reshape(tf.stack(corners, -1), [-1, 3])
        blend = self._ramp(0)[:, None, None] * self._ramp(1)[:, None]
        classes = self._scores.get_concrete_function().output_shapes[-1]
        sums = tf.zeros(tf.concat([tf.shape(images)[:3], [classes]], 0))
        for first in tf.range(0, tf.shape(corners)[0], self.batch):
            # Otherwise up to ten batches of windows are in memory at once.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            chosen = corners[first : first + self.batch]
            pixels = _pixels(chosen, *self.window)
            scores = self._scores(tf.gather_nd(images, pixels))
            sums = tf.tensor_scatter_nd_add(sums, pixels, scores * blend)
        return sums[:, :height, :width]


def predict_tiled(predictor, image):
    """Class map and confidence of one large image in bounded memory.

    Args:
      predictor: a `Predictor` with a window.
      image: numpy uint8 [H, W, 3].

    Returns:
      (class map uint8 [H, W], confidence uint8 [H, W]: the largest
      probability times 255).

    Raises:
      ValueError: if the predictor has no window.
    """
    class_map = np.empty(image.shape[:2], np.uint8)
    confidence = np.empty(image.shape[:2], np.uint8)
    for top, prob in finished_rows(predictor, image):
        rows = slice(top, top + len(prob))
        class_map[rows] = prob.argmax(-1)
        confidence[rows] = np.rint(prob.max(-1) * 255.0)
    return class_map, confidence


def finished_rows(predictor, image):
    """Probabilities of one image, from top to bottom, a few rows at a time.

    One row of windows is added up at a time; only rows that the next row of
    windows touches again are kept, so no more than a band as high as a window
    is ever in memory.

    Args:
      predictor: a `Predictor` with a window.
      image: numpy uint8 [H, W, 3].

    Yields:
      (top, float32 [rows, W, C]) such that all rows come once, in order.

    Raises:
      ValueError: if the predictor has no window.
    """
    if predictor.window is None:
        raise ValueError("Tiled prediction needs `window`. Received: window=0.")
    height, width = image.shape[:2]
    tops = predictor.starts(height, 0).numpy().tolist()
    weight_rows = predictor.coverage(height, 0).numpy()[:, None, None]
    weight_columns = predictor.coverage(width, 1).numpy()[:, None]
    kept = None
    for top, following in zip(tops, [*tops[1:], height]):
        band = image[None, top : top + predictor.window[0]]
        sums = predictor.weighted_sums(band)[0].numpy()
        if kept is not None:
            sums[: len(kept)] += kept
        kept = sums[following - top :].copy()
        done = sums[: following - top]
        done /= weight_rows[top:following] * weight_columns
        yield top, np.asarray(predictor.normalize(done))


def _pixels(corners, height, width):
    """(image, row, column) int32 [N, height, width, 3] of each window pixel."""
    image, top, left = tf.unstack(corners[:, None, None], axis=-1)
    rows = top + tf.range(height)[:, None]
    columns = left + tf.range(width)
    shape = [tf.shape(corners)[0], height, width]
    parts = (image, rows, columns)
    return tf.stack([tf.broadcast_to(part, shape) for part in parts], -1)


def _pad(images, height, width):
    """Adds `FILL_COLOR` at the bottom and right up to at least this size."""
    shape = tf.shape(images)
    missing = tf.maximum([height, width] - shape[1:3], 0)
    paddings = [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]
    outside = tf.pad(tf.zeros(shape), paddings, constant_values=1.0)
    return tf.pad(images, paddings) + outside * FILL_COLOR


def _image_batch(images):
    images = tf.cast(images, tf.float32)
    if images.shape.rank != 4 or images.shape[-1] != 3:
        raise ValueError(
            "`images` must be [B, H, W, 3]. "
            f"Received: shape={tuple(images.shape)}."
        )
    return images


def _check(scales, average, window, overlap, batch):
    if not scales or not all(0 < scale < np.inf for scale in scales):
        raise ValueError(
            f"`scales` must be positive and finite. Received: scales={scales}."
        )
    if average not in AVERAGES:
        raise ValueError(
            f"`average` must be one of {', '.join(AVERAGES)}. "
            f"Received: average={average!r}."
        )
    positive = all(side >= 1 for side in window)
    if len(window) != 2 or not (positive or not any(window)):
        raise ValueError(
            "`window` must be 0 (whole image), a side or (height, width) in "
            f"pixels. Received: window={window}."
        )
    if not 0 <= overlap < 1:
        raise ValueError(
            f"`overlap` must be in [0, 1). Received: overlap={overlap}."
        )
    if batch < 1:
        raise ValueError(f"`batch` must be at least 1. Received: {batch=}.")
