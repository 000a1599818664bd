# SPDX-License-Identifier: Apache-2.0
"""Reads `classes.json`: classes with names, and the mask values they have.

Either of

    ["sky", "traffic light"]                   the values are 0, 1, ...
    {"1": "person", "13": "stop sign"}         value -> name
    [{"name": "sky", "id": 3, "color": [70, 130, 180]},
     {"name": "unlabeled", "id": 0, "ignore": true}]

In the last form "id" is the value, for all entries or, as their place in the
list, for none; "color" is that of color-coded masks, for all classes or for
none; "ignore" says that it counts nowhere. "supercategory" and "isthing" may
be there, as in the lists of categories of COCO, and say nothing here.

Labels go by rising values, so gaps are closed: of the 182 values of
COCO-Stuff, 171 are classes. Value 255 is always ignored.
"""

import dataclasses
import json
from typing import Optional

from tfseg import id_lists, mask_code
from tfseg.datasets import base
from tfseg.datasets.classes import class_file

_LIMIT = 255
_KEYS = {"name", "id", "color", "ignore", "supercategory", "isthing"}
_FORMS = (
    'write ["name", ...], {"value": "name", ...} or [{"name": ..., "id": '
    '..., "color": [r, g, b], "ignore": true}, ...]'
)


@dataclasses.dataclass(frozen=True)
class _Entry:
    name: str
    value: Optional[int]
    color: Optional[base.Color] = None
    ignore: bool = False


def read(path):
    """Classes and the code of their masks.

    Args:
      path: JSON file, see the module.

    Returns:
      (tuple of names, tuple of RGB or None where the file gives no colors,
      function: base.Info -> mask_code.MaskCode).

    Raises:
      ValueError: malformed, ambiguous, or more than 255 classes.
    """
    entries = _numbered(_entries(_load(path), path), path)
    classes = [entry for entry in entries if not entry.ignore]
    if not classes:
        raise ValueError(f"{path}: no classes. Fix: {_FORMS}.")
    names = tuple(entry.name for entry in classes)
    palette = tuple(entry.color for entry in classes)
    class_file.check_unique(names, path, "name")
    if any(palette):
        _check_colors(entries, palette, path)
    else:
        palette = None
    return names, palette, lambda info: _code(info, entries)


def _check_colors(entries, palette, path):
    if not all(palette):
        bare = next(e for e in entries if not e.ignore and not e.color)
        raise ValueError(
            f"{path}: class {bare.name!r} has no color but others have. Fix: "
            "give all classes a color, or none."
        )
    class_file.check_unique(palette, path, "color")
    for entry in entries:
        if entry.ignore and entry.color in palette:
            raise ValueError(
                f"{path}: {entry.name!r} is ignored but has the color "
                f"{entry.color} of a class. Fix: correct one of the two."
            )


def _code(info, entries):
    """That of `info`, with the values and the ignored colors of the file."""
    code = info.mask_code()
    classes = [entry for entry in entries if not entry.ignore]
    ignored = [entry for entry in entries if entry.ignore]
    colored = all(entry.color for entry in classes)
    colors = [entry.color for entry in ignored if entry.color and colored]
    values = {entry.value: label for label, entry in enumerate(classes)}
    plain = not ignored and list(values) == list(range(len(classes)))
    table = mask_code.index_labels(values, [entry.value for entry in ignored])
    return mask_code.MaskCode(
        (*code.colors, *colors),
        (*code.color_labels, *[info.ignore_label] * len(colors)),
        code.index_labels if plain else table,
    )


def _load(path):
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file, object_pairs_hook=_Pairs)
    except ValueError as error:
        raise ValueError(
            f"{path}: not valid JSON: {error}. Fix: {_FORMS}."
        ) from None


class _Pairs(list):
    """The pairs of a JSON object, in which a key may be there twice."""


def _entries(content, path):
    if isinstance(content, _Pairs):
        return [_from_pair(pair, path) for pair in content]
    if isinstance(content, list):
        if all(isinstance(item, str) for item in content):
            return [_Entry(_name(item, path), None) for item in content]
        if all(isinstance(item, _Pairs) for item in content):
            return [_from_object(dict(item), path) for item in content]
    raise ValueError(f"{path}: not a list of classes. Fix: {_FORMS}.")


def _from_pair(pair, path):
    value, name = pair
    if not value.isdecimal():
        raise ValueError(
            f"{path}: {value!r} is not a value of a mask. Fix: {_FORMS}."
        )
    return _Entry(_name(name, path), int(value))


def _from_object(item, path):
    strange = sorted(item.keys() - _KEYS)
    if strange:
        raise ValueError(
            f"{path}: unknown keys: {id_lists.shorten(strange)}. Fix: {_FORMS}."
        )
    name, ignore = _name(item.get("name"), path), item.get("ignore", False)
    value, color = item.get("id"), item.get("color")
    if not isinstance(ignore, bool):
        raise ValueError(
            f"{path}: {name!r} has the ignore {ignore!r}. Fix: true or false."
        )
    if value is not None and type(value) is not int:
        raise ValueError(
            f"{path}: {name!r} has the id {value!r}. Fix: a whole number."
        )
    if color is not None and not _is_color(color):
        raise ValueError(
            f"{path}: {name!r} has the color {color!r}. Fix: three whole "
            "numbers in 0..255."
        )
    return _Entry(name, value, color and tuple(color), ignore)


def _is_color(color):
    return (
        isinstance(color, list)
        and len(color) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in color)
    )


def _name(name, path):
    if isinstance(name, str) and name.strip():
        return name.strip()
    raise ValueError(
        f"{path}: {name!r} is not the name of a class. Fix: {_FORMS}."
    )


def _numbered(entries, path):
    """Entries by rising value, which is their place if none has one."""
    bare = [entry for entry in entries if entry.value is None]
    if bare and len(bare) < len(entries):
        raise ValueError(
            f"{path}: {bare[0].name!r} has no id but others have. Fix: give "
            "all entries an id, or none."
        )
    if bare:
        entries = [
            dataclasses.replace(entry, value=place)
            for place, entry in enumerate(entries)
        ]
    values = tuple(entry.value for entry in entries)
    wrong = [value for value in values if not 0 <= value < _LIMIT]
    if wrong:
        raise ValueError(
            f"{path}: mask values outside 0..{_LIMIT - 1}: "
            f"{id_lists.shorten(wrong)}. Fix: correct them; 255 is always "
            "ignored and need not be listed."
        )
    class_file.check_unique(values, path, "mask value")
    return sorted(entries, key=lambda entry: entry.value)
