# SPDX-License-Identifier: Apache-2.0
"""Finds files in the folders of a public data set.

Reads the entries of folders alone, never the status of a file.
"""

import collections
import os

from tfseg import id_lists


def root(dir, marker, *, layout, inside=(), option="`config.dataset.dir`"):
    """The folder of a data set, which may stand inside the one named.

    Args:
      dir: what the user names.
      marker: a folder that tells.
      layout: str, what the data set holds, for messages.
      inside: where it may stand below `dir`.
      option: how the user names it, for messages.

    Returns:
      path of the first of `dir` and its `inside` that holds the marker.

    Raises:
      ValueError: none does; says what is there instead.
    """
    if not dir:
        raise ValueError(f"{option} is empty. Fix: name {layout}.")
    for place in ("", *inside):
        path = os.path.join(dir, place) if place else dir
        if os.path.isdir(os.path.join(path, marker)):
            return path
    raise missing(os.path.join(dir, marker), layout)


def missing(path, layout):
    """ValueError about a folder or file that is not there.

    Args:
      path: what is not there.
      layout: str, what the data set holds.
    """
    above = os.path.dirname(path)
    while not os.path.isdir(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    return ValueError(
        f"{path}: not there; {above or '.'} {_content(above)}. Fix: name, and "
        f"unpack whole, {layout}."
    )


def named(folder, start="", end="", *, layout):
    """Files of a folder whose names begin and end so.

    Args:
      folder: path.
      start: of the name.
      end: of the name, or a tuple of choices.
      layout: for messages, see `missing`.

    Returns:
      dict, the name between `start` and `end` -> path, sorted by name.

    Raises:
      ValueError: no such folder, or no such file in it.
    """
    if not os.path.isdir(folder):
        raise missing(folder, layout)
    ends = (end,) if isinstance(end, str) else end
    found = {}
    for name in sorted(os.listdir(folder)):
        cut = next((e for e in ends if name.lower().endswith(e.lower())), None)
        if cut is None or not name.startswith(start) or name.startswith("."):
            continue
        middle = name[len(start) : len(name) - len(cut)]
        found[middle] = os.path.join(folder, name)
    if not found:
        wanted = " or ".join(f"{start}*{e}" for e in ends)
        raise ValueError(
            f"{folder}: no file {wanted}; it {_content(folder)}. Fix: name, "
            f"and unpack whole, {layout}."
        )
    return found


def read_list(path, *, layout):
    """Ids of a list of the data set: the stem of each line's first word.

    So it reads bare ids as well as lines of two paths.

    Args:
      path: text file, LF or CRLF.
      layout: for messages, see `missing`.

    Returns:
      tuple of ids in the order of the file.

    Raises:
      ValueError: missing, empty, or an id that is there twice.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            words = [line.split()[0] for line in file if line.strip()]
    except FileNotFoundError:
        raise missing(path, layout) from None
    ids = tuple(os.path.splitext(os.path.basename(word))[0] for word in words)
    if not ids:
        raise ValueError(f"{path}: lists no id. Fix: get the file again.")
    if len(set(ids)) < len(ids):
        counts = collections.Counter(ids)
        twice = [name for name, count in counts.items() if count > 1]
        raise ValueError(
            f"{path}: ids that are there twice: {id_lists.shorten(twice)}. "
            "Fix: get the file again."
        )
    return ids


def _content(folder):
    """'holds a, b, c, ... (7 more)' or 'is empty'."""
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    names = [name for name in names if not name.startswith(".")]
    return f"holds {id_lists.shorten(names)}" if names else "is empty"
