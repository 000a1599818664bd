# SPDX-License-Identifier: Apache-2.0
"""How the pixels of a mask file stand for labels."""

import dataclasses
from typing import Tuple


@dataclasses.dataclass(frozen=True)
class MaskCode:
    """The code of the masks of a data set.

    Attributes:
      colors: RGB of the colors in color-coded masks, 0..255.
      color_labels: the label of each; several colors may share one.
      index_labels: the label of each of the 256 values in gray and palette
        masks; -1 where a mask must not have the value.
    """

    colors: Tuple[Tuple[int, int, int], ...] = ()
    color_labels: Tuple[int, ...] = ()
    index_labels: Tuple[int, ...] = tuple(range(256))


def index_labels(labels, ignored=(), ignore_label=255):
    """The 256 `index_labels` of a data set whose masks hold other ids.

    Args:
      labels: dict, value in the mask -> label.
      ignored: values that count nowhere; `ignore_label` is one of them.
      ignore_label: their label.
    """
    table = [-1] * 256
    for value in (*ignored, ignore_label):
        table[value] = ignore_label
    for value, label in labels.items():
        table[value] = label
    return tuple(table)
