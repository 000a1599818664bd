# SPDX-License-Identifier: Apache-2.0
"""Reads `image_labels.txt`: which classes images show, without masks."""

import os

from tfseg import id_lists, lookup


def read(path, ids, class_names):
    """Classes of images, an image a line: its id, a tab, names with commas.

    Args:
      path: text file of `ID<TAB>cat, dog`; nothing after the tab, or
        background alone: the image shows none of the classes. Lines that are
        empty or start with # are skipped, but not that of an id with #.
      ids: set or dict of the ids that exist.
      class_names: in the order of the labels.

    Returns:
      dict, id -> sorted labels, without the background (0).

    Raises:
      ValueError: no such file, or a line that is malformed, names an unknown
        image or class, or an image that is there twice.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    found = {}
    for number, line in enumerate(_lines(path), start=1):
        name, tab, text = line.partition("\t")
        if not line.strip() or (line.startswith("#") and name not in ids):
            continue
        where = f"{path}, line {number}"
        if not tab:
            raise ValueError(
                f"{where}: malformed: {line!r}. Fix: write the id, a tab, and "
                "the names of classes with commas between."
            )
        if name not in ids or name in found:
            problem = "is there twice" if name in found else "is no image"
            raise ValueError(
                f"{where}: {name!r} {problem}.{lookup.suggestion(name, ids)} "
                "Fix: give each image of images/ one line at most."
            )
        shown = [part.strip() for part in text.split(",") if part.strip()]
        for part in shown:
            if part not in labels:
                raise ValueError(
                    f"{where}: unknown class {part!r}."
                    f"{lookup.suggestion(part, labels)} "
                    f"Available: {', '.join(labels)}."
                )
        found[name] = tuple(sorted({labels[part] for part in shown} - {0}))
    return found


def _lines(path):
    if not os.path.exists(path):
        raise ValueError(
            f"{path}: no such file, but `config.dataset.image_labels` is "
            "True. Fix: write it, a line `ID<TAB>class, class` for each image "
            "whose classes are known."
        )
    return id_lists.read_lines(path)
