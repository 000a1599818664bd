# SPDX-License-Identifier: Apache-2.0
"""Puts the parts of a public data set together and counts them."""

import dataclasses
from typing import Mapping, Optional, Tuple

from absl import logging

from tfseg import id_lists
from tfseg.datasets import base


@dataclasses.dataclass(frozen=True)
class Part:
    """Training, validation or test images as they should be, and are.

    Attributes:
      ids: in the order of the data set's list.
      images: id -> path of those that are there.
      labels: id -> path of the masks that are there; None where the data set
        publishes none.
      size: number of images that were published.
      notes: words on what is there, for the warning.
      optional: no images are no mistake.
    """

    ids: Tuple[str, ...]
    images: Mapping[str, str]
    labels: Optional[Mapping[str, str]]
    size: int
    notes: Tuple[str, ...] = ()
    optional: bool = False


def dataset(dir, info, code, parts, classes=None):
    """A data set of what is there; one warning says what is missing.

    An image without a file is left out. One without a mask trains as an
    unlabeled image; it cannot validate or test, so there it is left out,
    unless no mask of the part was published.

    Args:
      dir: folder of the data set, for messages.
      info: base.Info.
      code: mask_code.MaskCode.
      parts: name -> Part; "train" and "extra" train together.
      classes: id -> classes of an image as far as they are known.

    Returns:
      base.Dataset.

    Raises:
      ValueError: a part has no image, or no mask though it should have.
    """
    classes = classes or {}
    records, partitions, short = {}, {}, []
    for name, part in parts.items():
        _check_unpacked(dir, name, part)
        kept, missing = _kept(name, part)
        if missing or len(kept) != part.size:
            found = f"{name} has {len(kept):,} of {part.size:,} images"
            short.append(" - ".join([found, *missing, *part.notes]))
        for key in kept:
            label = (part.labels or {}).get(key)
            records[key] = base.Record(
                key, part.images[key], label, classes.get(key)
            )
        place = "train" if name == "extra" else name
        if kept:
            partitions[place] = partitions.get(place, ()) + kept
    if short:
        logging.warning(
            "%s: %s differs from what was published: %s",
            dir,
            info.name,
            "; ".join(short),
        )
    return base.Dataset(info, dict(sorted(records.items())), partitions, code)


def _check_unpacked(dir, name, part):
    if part.optional and not part.images:
        return
    if not any(key in part.images for key in part.ids):
        raise ValueError(
            f"{dir}: none of the {len(part.ids):,} images of the {name} list "
            f"is there, {id_lists.shorten(part.ids)}. Fix: unpack the images."
        )
    if part.labels is not None and not any(
        key in part.labels for key in part.ids
    ):
        raise ValueError(
            f"{dir}: none of the {len(part.ids):,} {name} images has a mask, "
            f"{id_lists.shorten(part.ids)}. Fix: unpack the masks."
        )


def _kept(name, part):
    """(ids that count, words on what is missing)."""
    gone = [key for key in part.ids if key not in part.images]
    kept = tuple(key for key in part.ids if key in part.images)
    missing = []
    if gone:
        missing.append(f"no image of {_some(gone)}")
    if part.labels is not None:
        bare = [key for key in kept if key not in part.labels]
        if bare:
            use = "unlabeled" if name == "train" else "left out"
            missing.append(f"no mask, so {use}: {_some(bare)}")
        if name != "train":
            kept = tuple(key for key in kept if key in part.labels)
    return kept, missing


def _some(ids):
    return f"{len(ids):,} ids: {id_lists.shorten(ids)}"
