# SPDX-License-Identifier: Apache-2.0
"""What a data set is: its classes, and where the files of each id stand.

A leaf `tfseg/datasets/<name>.py` has `build(*, dir, **options) -> Dataset`.
"""

import dataclasses
from typing import Dict, Optional, Tuple

from tfseg import mask_code

Color = Tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Info:
    """Classes of a data set.

    Attributes:
      name: of the data set.
      class_names: one per class, in the order of the labels.
      palette: RGB per class, 0..255.
      ignore_color: RGB that stands for `ignore_label` in color-coded masks.
      ignore_label: the label that counts nowhere.
    """

    name: str
    class_names: Tuple[str, ...]
    palette: Tuple[Color, ...]
    ignore_color: Optional[Color] = (224, 224, 192)
    ignore_label: int = 255

    @property
    def num_classes(self):
        return len(self.class_names)

    def mask_code(self):
        """That of masks with the labels or the colors of the palette."""
        labels = tuple(range(self.num_classes))
        if self.ignore_color is None:
            return mask_code.MaskCode(self.palette, labels)
        return mask_code.MaskCode(
            (*self.palette, self.ignore_color), (*labels, self.ignore_label)
        )

    def to_dict(self):
        """A dict that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`, also after JSON made lists of tuples."""
        ignore_color = values["ignore_color"]
        return cls(
            name=values["name"],
            class_names=tuple(values["class_names"]),
            palette=tuple(tuple(color) for color in values["palette"]),
            ignore_color=ignore_color and tuple(ignore_color),
            ignore_label=values["ignore_label"],
        )


@dataclasses.dataclass(frozen=True)
class Record:
    """Files of one id; `label` is None where there is no mask.

    `classes` are those that the image is known to show, without its mask:
    weak labels; None where nothing is known.
    """

    id: str
    image: str
    label: Optional[str]
    classes: Optional[Tuple[int, ...]] = None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """All that a data set has.

    Attributes:
      info: Info.
      records: id -> Record, in the order of the sorted ids.
      partitions: the lists that come with the data set, name -> ids; any of
        train, validation, test, labeled, unlabeled.
      mask_code: of the mask files.
      index: data.records.Index if the examples are records, else None.
    """

    info: Info
    records: Dict[str, Record]
    partitions: Dict[str, Tuple[str, ...]]
    mask_code: mask_code.MaskCode
    index: Optional[object] = None


def voc_palette(num_colors):
    """The color map of PASCAL VOC: well-distinct colors for any number.

    The bits of a label, three at a time from the lowest, become the bits of
    red, green and blue from the highest.

    Args:
      num_colors: 0..256.

    Returns:
      tuple of (red, green, blue), 0..255.
    """
    return tuple(_voc_color(label) for label in range(num_colors))


def _voc_color(label):
    return tuple(
        sum((label >> 3 * i + channel & 1) << 7 - i for i in range(3))
        for channel in range(3)
    )
