# SPDX-License-Identifier: Apache-2.0
"""Text files that list ids of a data set, one a line."""

import itertools
import re

from tfseg import lookup

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_SHOWN = 5


def read_ids(path, known):
    """Ids of a list: LF or CRLF, blank lines and `# comments` skipped.

    Args:
      path: text file; an id may carry the suffix of its image.
      known: set or dict of the ids that exist.

    Returns:
      tuple of ids in the order of the file, () if it lists none.

    Raises:
      ValueError: missing file; an id that is unsafe, unknown or there twice.
    """
    lines = {}
    for number, line in enumerate(_read_lines(path), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        where = f"{path}, line {number}"
        _check_safe(name, where)
        name = _without_suffix(name, known)
        if name not in known:
            raise ValueError(
                f"{where}: there is no image with the id {name!r}."
                f"{lookup.suggestion(name, known)} Fix: an id is the path "
                "below images/ without suffix."
            )
        if name in lines:
            raise ValueError(
                f"{where}: the id {name!r} is there twice, first in line "
                f"{lines[name]}. Fix: remove one of the two."
            )
        lines[name] = number
    return tuple(lines)


def check_disjoint(lists):
    """Checks that no two lists share an id.

    Args:
      lists: name for the message -> ids.

    Raises:
      ValueError: two lists share ids; names both and some ids.
    """
    for one, other in itertools.combinations(lists, 2):
        shared = sorted(set(lists[one]) & set(lists[other]))
        if shared:
            raise ValueError(
                f"{one} and {other} share {len(shared)} ids: "
                f"{shorten(shared)}. Fix: remove them from one of the two."
            )


def shorten(items):
    """'a, b, c, ... (7 more)' for messages."""
    shown = ", ".join(str(item) for item in items[:_SHOWN])
    more = len(items) - _SHOWN
    return f"{shown}, ... ({more} more)" if more > 0 else shown


def _read_lines(path):
    try:
        # utf-8-sig drops the mark that Windows editors put in front.
        with open(path, encoding="utf-8-sig") as file:
            return file.read().split("\n")
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no such file. Fix: correct the path, or leave it empty."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not a UTF-8 text file ({error.reason} at byte "
            f"{error.start}). Fix: save it as UTF-8, one id a line."
        ) from None


def _check_safe(name, where):
    """An id is a relative path with forward slashes, below images/."""
    if "\0" in name or "\\" in name:
        reason = "has a backslash or a NUL"
    elif name.startswith("/") or re.match("[A-Za-z]:/", name):
        reason = "is an absolute path"
    elif {"", ".", ".."} & set(name.split("/")):
        reason = "has an empty, '.' or '..' part"
    else:
        return
    raise ValueError(
        f"{where}: the id {name!r} {reason}. Fix: write the path below "
        "images/ with forward slashes and without suffix."
    )


def _without_suffix(name, known):
    stem, dot, suffix = name.rpartition(".")
    if name not in known and f"{dot}{suffix}".lower() in IMAGE_SUFFIXES:
        return stem
    return name
