# SPDX-License-Identifier: Apache-2.0
"""Mean intersection over union from a confusion matrix."""

import numpy as np
import tensorflow as tf

ABSENT = ("nan", "zero")


def confusion_matrix(label, prediction, num_classes, ignore_label=255):
    """Counts pixels by true and predicted class.

    Args:
      label: int [...], class in 0..C-1, or `ignore_label`.
      prediction: int [...], class in 0..C-1, shape of `label`.
      num_classes: C.
      ignore_label: pixels with this label are not counted.

    Returns:
      int64 [C, C], rows true, columns predicted; sums over batches and
      replicas stay exact.

    Raises:
      ValueError: if the ranks differ.
      tf.errors.InvalidArgumentError: a class outside 0..C-1.
    """
    if len(label.shape) != len(prediction.shape):
        raise ValueError(
            "`label` and `prediction` must have the same shape. Received: "
            f"{label.shape} and {prediction.shape}."
        )
    label = tf.cast(label, tf.int64)
    prediction = tf.cast(prediction, tf.int64)
    valid = tf.not_equal(label, ignore_label)
    label = tf.where(valid, label, 0)
    # Otherwise a wrong class would be counted in another row.
    with tf.control_dependencies(
        [
            tf.debugging.assert_non_negative(label),
            tf.debugging.assert_less(label, tf.cast(num_classes, tf.int64)),
            tf.debugging.assert_non_negative(prediction),
            tf.debugging.assert_less(
                prediction, tf.cast(num_classes, tf.int64)
            ),
        ]
    ):
        cell = label * num_classes + prediction
    # Not tf.math.bincount: that has no deterministic kernel on the GPU, and
    # its output size is not static, which XLA needs. Ignored pixels go to -1,
    # which is dropped.
    cell = tf.reshape(tf.where(valid, cell, -1), [-1])
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(cell), cell, num_classes * num_classes
    )
    return tf.reshape(counts, [num_classes, num_classes])


def summarize(matrix, absent="nan"):
    """Scores of a confusion matrix.

    Args:
      matrix: int64 [C, C], rows true, columns predicted (numpy).
      absent: what a class counts that is neither true nor predicted anywhere:
        "nan" = skipped (CPS), "zero" = 0 (CCT, CAC, French et al.).

    Returns:
      dict of `miou` (float), `iou` (float64 [C], nan = skipped) and
      `pixel_accuracy` (float), in 0..1. Without a counted pixel `miou` and
      `pixel_accuracy` are nan, and `iou` follows `absent`.

    Raises:
      ValueError: if `absent` is unknown.
    """
    if absent not in ABSENT:
        raise ValueError(
            f"`absent` must be one of {', '.join(ABSENT)}. "
            f"Received: {absent!r}."
        )
    matrix = np.asarray(matrix, np.int64)
    hits = np.diagonal(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    iou = np.full(len(matrix), np.nan if absent == "nan" else 0.0)
    np.divide(hits, union, out=iou, where=union > 0)
    total = int(matrix.sum())
    return {
        "miou": float(np.nanmean(iou)) if total else float("nan"),
        "iou": iou,
        "pixel_accuracy": int(hits.sum()) / total if total else float("nan"),
    }
