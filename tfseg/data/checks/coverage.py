# SPDX-License-Identifier: Apache-2.0
"""What all masks and sizes together say: missing classes, empty masks."""

import numpy as np

from tfseg import id_lists
from tfseg.data import check

# From this share of the masks on, masks of one class look like dummies.
_DUMMY_SHARE = 0.25
_LABELED = "labeled"


def find_in_masks(folder, paths, sizes, counts, class_names, parts):
    """Findings on masks and classes.

    Args:
      folder: of the data set, to name where no single file is wrong.
      paths: N masks without a finding.
      sizes: int [N, 2], height and width.
      counts: int [N, C], pixels of each class.
      class_names: C names.
      parts: N of labeled, unlabeled, validation, test, None.

    Returns:
      list of check.Finding.
    """
    if not len(paths):
        return []
    pixels = np.prod(np.asarray(sizes, np.int64), 1)
    return [
        *_all_ignored(paths, pixels, counts),
        *_one_class(paths, pixels, counts, class_names),
        *_never_labeled(folder, counts, class_names),
        *_not_in_training(paths, counts, class_names, parts),
    ]


def find_small(paths, sizes, crop):
    """Finding on images smaller than the crop.

    Args:
      paths: N images that training may draw.
      sizes: int [N, 2], height and width.
      crop: (height, width).

    Returns:
      list of check.Finding.
    """
    small = np.flatnonzero((np.asarray(sizes) < np.asarray(crop)).any(1))
    if not len(small):
        return []
    least = small[np.prod(np.asarray(sizes, np.int64)[small], 1).argmin()]
    height, width = np.asarray(sizes)[least].tolist()
    return [
        check.Finding(
            paths[least],
            len(small),
            f"is {width} x {height} pixels (width x height), less than the "
            f"crop of {crop[1]} x {crop[0]}; of {len(paths):,} training images "
            f"{len(small):,} ({len(small) / len(paths):.1%}) are smaller, and "
            "are padded",
            "nothing, or a smaller `config.data.crop`",
            "smaller_than_crop",
        )
    ]


def _all_ignored(paths, pixels, counts):
    return [
        check.Finding(
            paths[i],
            int(pixels[i]),
            f"all of its {pixels[i]:,} pixels are ignored, so it teaches "
            "nothing",
            "label something in it, or remove the mask: then the image is an "
            "unlabeled one",
            "all_ignored",
        )
        for i in np.flatnonzero(counts.sum(1) == 0)
    ]


def _one_class(paths, pixels, counts, class_names):
    """Masks that one class fills, if they are many."""
    full = counts == pixels[:, None]
    label = int(full.sum(0).argmax())
    rows = np.flatnonzero(full[:, label])
    if len(rows) < max(2, _DUMMY_SHARE * len(paths)):
        return []
    return [
        check.Finding(
            paths[rows[0]],
            len(rows),
            f"holds nothing but {class_names[label]!r}, as do {len(rows):,} "
            f"of {len(paths):,} masks",
            "if they stand for images that nobody labeled, remove these "
            "masks: an image without a mask is an unlabeled one",
            "one_class",
        )
    ]


def _never_labeled(folder, counts, class_names):
    used = counts.any(0)
    missing = [name for name, here in zip(class_names, used) if not here]
    if not missing or not used.any():
        return []
    hint = ""
    if 2 * used.sum() <= len(used):
        ids = id_lists.shorten(np.flatnonzero(used).tolist())
        hint = (
            f"; only the ids {ids} are there, so these may be color masks "
            "saved as gray, or ids stretched to be visible"
        )
    return [
        check.Finding(
            folder,
            tuple(missing),
            f"no mask shows {len(missing)} of the {len(class_names)} classes: "
            f"{id_lists.shorten(missing)}{hint}",
            "label them, or take them out of the class list",
            "never_labeled",
        )
    ]


def _not_in_training(paths, counts, class_names, parts):
    shown = counts > 0
    training = np.array([part == _LABELED for part in parts])
    if not training.any():  # Without a split nothing is known to train.
        return []
    missing = np.flatnonzero(shown.any(0) & ~shown[training].any(0))
    findings = []
    for label in missing.tolist():
        rows = np.flatnonzero(shown[:, label])
        where = sorted({parts[i] or "unused" for i in rows})
        findings.append(
            check.Finding(
                paths[rows[0]],
                class_names[label],
                f"shows {class_names[label]!r}, which is in {len(rows)} masks "
                f"({', '.join(where)}) but in none of the "
                f"{training.sum()} labeled training images",
                "label training images that show it, or choose others with "
                "`config.split`",
                "not_in_training",
            )
        )
    return findings
