# SPDX-License-Identifier: Apache-2.0
"""Text files that list images of a data set, one a line.

A line is an id, or the path of an image; after the path may stand that of its
mask, which is not read: the data set knows its masks. So the published lists
can be used as they are:

    CPS, PseudoSeg  2007_000032
    PseudoSeg       train2017/000000177254
    CCT, CAC        /JPEGImages/ID.jpg /SegmentationClassAug/ID.png
    UniMatch        JPEGImages/ID.jpg SegmentationClass/ID.png
    CPS             /images/train/ID.png<TAB>/segmentation/train/ID_gtFine.png
    CAC, UniMatch   leftImg8bit/train/CITY/ID_leftImg8bit.png gtFine/train/...
    U2PL            leftImg8bit/train/CITY/ID_leftImg8bit.png

Which image a line means: a line that is an id, or an id and the suffix of an
image, means that id. Else it is a path. It ends at a tab, or at the first
space after the suffix of an image; a slash in front, the suffix, and the
`_leftImg8bit` of Cityscapes are left out. It means the id that ends it, or
that it ends, in whole names of folders and files: JPEGImages/2007_000032
means 2007_000032, and 2007_000032 means train/2007_000032 where that is the
id. What fits two ids is refused. Paths are compared, never opened.
"""

import functools
import itertools
import os
import re

from tfseg import lookup

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# What a file name has and an id has not.
_NAME_ENDINGS = ("_leftImg8bit",)
_IMAGE_AND_MORE = re.compile(r"(.+?\.(?:jpg|jpeg|png))\s", re.IGNORECASE)
_SHOWN = 5


def read_ids(path, known):
    """Ids of a list, see the module.

    UTF-8; LF or CRLF; blank lines and `# comments` are skipped.

    Args:
      path: text file.
      known: set or dict of the ids that exist.

    Returns:
      tuple of ids in the order of the file, () if it lists none.

    Raises:
      ValueError: missing file; a line that is unsafe, means no image or two,
        or an image that is there twice.
    """
    finder = _Finder(known)
    lines, strange = {}, []
    for number, line in enumerate(read_lines(path), start=1):
        line = line.rstrip("\r")
        if line not in known:
            line = line.strip()
            if not line or line.startswith("#"):
                continue
        where = f"{path}, line {number}"
        name = finder.find(line, where)
        if name is None:
            strange.append((where, line))
        elif name in lines:
            raise ValueError(
                f"{where}: the id {name!r} is there twice, first in line "
                f"{lines[name]}. Fix: remove one of the two."
            )
        else:
            lines[name] = number
    if strange:
        _raise_unknown(strange, known)
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


def read_bytes(path):
    """The bytes of a list.

    Raises:
      ValueError: cannot be read; names the file.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror.lower()}. Fix: correct the path, or "
            "leave it empty."
        ) from None


def files_below(folder, above=frozenset()):
    """Yields the paths of all files; follows links, but not to a folder above.

    Args:
      folder: to look in, with its sub-folders.
      above: real paths of the folders that it is in.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from files_below(entry.path, above | {real})
            else:
                yield entry.path


def read_lines(path):
    """Lines of a text file in UTF-8.

    Raises:
      ValueError: cannot be read, or is no UTF-8; names the file.
    """
    try:
        # utf-8-sig drops the mark that Windows editors put in front.
        return read_bytes(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not a UTF-8 text file ({error.reason} at byte "
            f"{error.start}). Fix: save it as UTF-8."
        ) from None


class _Finder:
    """Finds what a line means; linear in all ids and lines together."""

    def __init__(self, known):
        self._known = known

    @functools.cached_property
    def _ends(self):
        """Each end of an id at a slash -> the first two ids that have it."""
        ends = {}
        for name in self._known:
            for tail in _tails(name):
                ends[tail] = sorted([*ends.get(tail, ()), name])[:2]
        return ends

    def find(self, line, where):
        """The id that a line means, None if there is none."""
        for name in (line, _without_suffix(line)):
            if name in self._known:
                return name
        path = _image_path(line)
        _check_safe(path, where)
        names = list(_spellings(path))
        for name in names:
            if name in self._known:
                return name
        found = {one for name in names for one in self._fitting(name)}
        if len(found) > 1:
            one, other = sorted(found)[:2]
            raise ValueError(
                f"{where}: {line!r} fits the ids {one!r} and {other!r}. Fix: "
                "write the id of the image that is meant."
            )
        return found.pop() if found else None

    def _fitting(self, name):
        yield from (tail for tail in _tails(name) if tail in self._known)
        yield from self._ends.get(name, ())


def _tails(name):
    """b/c and c of a/b/c."""
    while "/" in name:
        name = name.partition("/")[2]
        yield name


def _image_path(line):
    """The first of `image<TAB>mask`, `image.jpg mask.png` and `/image`."""
    path = line.partition("\t")[0]
    if path == line:
        match = _IMAGE_AND_MORE.match(line)
        path = match[1] if match else line
    return path.strip().removeprefix("/")


def _spellings(path):
    """The path as it is, without suffix, and as an id would be written."""
    bare = _without_suffix(path)
    yield from dict.fromkeys((path, bare))
    for ending in _NAME_ENDINGS:
        if bare.endswith(ending):
            yield bare[: -len(ending)]


def _without_suffix(name):
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def _check_safe(path, where):
    if "\0" in path or "\\" in path:
        reason = "has a backslash or a NUL"
    elif {"", ".", ".."} & set(path.split("/")):
        reason = "has an empty, '.' or '..' part"
    else:
        return
    raise ValueError(
        f"{where}: {path!r} {reason}. Fix: write the id, or the path of the "
        "image with forward slashes."
    )


def _raise_unknown(strange, known):
    where, line = strange[0]
    name = _without_suffix(_image_path(line))
    hint = lookup.suggestion(name, known)
    hint = hint or lookup.suggestion(name.rpartition("/")[2], known)
    more = len(strange) - 1
    raise ValueError(
        f"{where}: there is no image with the id or path {line!r}.{hint}"
        + (f" {more} more lines name no image." if more else "")
        + " Fix: correct the line, or add the image; an id looks like "
        f"{min(known, default='')!r}."
    )
