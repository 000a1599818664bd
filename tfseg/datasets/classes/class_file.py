# SPDX-License-Identifier: Apache-2.0
"""Reads `classes.txt`: names of the classes and their colors."""

import re

from tfseg import id_lists

_LIMIT = 255  # Label 255 means ignored.
_COLORED = re.compile(
    r"(?P<name>.+?)(?:\s*,\s*|\s+)"
    r"(?P<red>-?\d+)(?:\s*,\s*|\s+)"
    r"(?P<green>-?\d+)(?:\s*,\s*|\s+)"
    r"(?P<blue>-?\d+)"
)
# Two numbers at the end, or one after a comma: a color that lacks a part.
_HALF_COLORED = re.compile(r".*(?:,\s*-?\d+|(?:^|\s)-?\d+\s+-?\d+)")


def read(path):
    """Classes in the order of the labels, one a line.

    Args:
      path: text file of `name`, `name r g b` or `name,r,g,b`; a name may hold
        spaces. Lines that start with # are skipped.

    Returns:
      (tuple of names, tuple of RGB or None where the file gives no colors).

    Raises:
      ValueError: a malformed line, a name or color that is there twice,
        colors for some classes only.
    """
    lines = "\n".join(id_lists.read_lines(path)).rstrip().split("\n")
    parsed = [
        _parse(line.strip(), f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if not line.strip().startswith("#")
    ]
    if len(parsed) > _LIMIT:
        raise ValueError(
            f"{path}: {len(parsed)} classes; there can be at most {_LIMIT}, "
            "as label 255 means ignored. Fix: merge classes."
        )
    names = tuple(name for name, _ in parsed)
    palette = tuple(color for _, color in parsed)
    check_unique(names, path, "name")
    if not any(palette):
        return names, None
    if not all(palette):
        bare = names[palette.index(None)]
        raise ValueError(
            f"{path}: class {bare!r} has no color but others have. Fix: "
            "write `name r g b` for all classes or for none."
        )
    check_unique(palette, path, "color")
    return names, palette


def _parse(line, where):
    match = _COLORED.fullmatch(line)
    if match:
        color = tuple(int(match[part]) for part in ("red", "green", "blue"))
        if all(0 <= value <= 255 for value in color):
            return match["name"], color
    elif line and not _HALF_COLORED.fullmatch(line):
        return line, None
    raise ValueError(
        f"{where}: malformed: {line!r}. Fix: write `name`, `name r g b` or "
        "`name,r,g,b` with whole numbers in 0..255."
    )


def check_unique(values, path, kind):
    """Refuses a value that two classes have.

    Args:
      values: one per class.
      path, kind: for the message.

    Raises:
      ValueError: names both classes and the value.
    """
    for label, value in enumerate(values):
        first = values.index(value)
        if first != label:
            raise ValueError(
                f"{path}: classes {first} and {label} have the same {kind} "
                f"{value!r}. Fix: give each class a {kind} of its own."
            )
