# SPDX-License-Identifier: Apache-2.0
"""Writes the folder that `launch.prepare` makes of a data set.

An interrupted run goes on where it was; a run on a complete folder changes
nothing, and the same input gives the same bytes.
"""

import io
import json
import multiprocessing.pool
import os
import struct

import tqdm
from PIL import Image

STAMP = "prepared.json"
_SHOWN = 10


def begin(dir, settings):
    """Takes a folder, or goes on with one of the same settings.

    Args:
      dir: folder to write, which may not be there yet.
      settings: JSON dict that says what will be in it.

    Raises:
      ValueError: it holds something else.
    """
    if not dir:
        raise ValueError("`--dir` is empty. Fix: name the folder to write.")
    os.makedirs(dir, exist_ok=True)
    found = _read(dir)
    visible = [name for name in os.listdir(dir) if not name.startswith(".")]
    if found is None and visible:
        raise ValueError(
            f"{dir}: is there already and was not written by launch.prepare "
            f"(no readable {STAMP}). Fix: choose another --dir, or remove it."
        )
    if found is not None and found["settings"] != settings:
        raise ValueError(
            f"{dir}: holds {found['settings']}, asked for {settings}. Fix: "
            "choose another --dir, or remove it."
        )
    _write(dir, settings, complete=False)


def finish(dir, settings):
    """Notes that the folder is complete."""
    _write(dir, settings, complete=True)


def check_complete(dir, command):
    """Refuses a folder whose writing was interrupted.

    Args:
      dir: folder that may come from launch.prepare.
      command: the one that writes it, for the message.

    Returns:
      the settings it was written with; None if it comes from elsewhere.

    Raises:
      ValueError: begun and not finished.
    """
    found = _read(dir)
    if found is None:
        return None
    if not found["complete"]:
        raise ValueError(
            f"{dir}: launch.prepare was interrupted. Fix: run it again, it "
            f"goes on where it was: {command}"
        )
    return found["settings"]


def write_all(jobs, convert, name):
    """Writes the files that are not there yet, in threads.

    Args:
      jobs: path to write -> what `convert` takes.
      convert: function that returns the bytes of the file; what is wrong
        with its input it raises as ValueError or OSError.
      name: of the files, for the progress bar.

    Raises:
      ValueError: some could not be converted; all others are written.
    """
    folders = sorted({os.path.dirname(path) for path in jobs})
    there = set()
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        there |= {os.path.join(folder, file) for file in os.listdir(folder)}
    left = [path for path in jobs if path not in there]

    def run(path):
        try:
            write_bytes(path, convert(jobs[path]))
        except (ValueError, OSError) as error:
            return str(error)

    with multiprocessing.pool.ThreadPool(os.cpu_count() or 1) as pool:
        results = tqdm.tqdm(
            pool.imap_unordered(run, left),
            desc=name,
            total=len(jobs),
            initial=len(jobs) - len(left),
            # On a terminal alone.
            disable=None,
        )
        wrong = sorted(error for error in results if error)
    if wrong:
        shown = "\n".join(wrong[:_SHOWN])
        raise ValueError(
            f"{len(wrong)} of {len(jobs)} {name} could not be converted:\n"
            f"{shown}\nFix: get these files again, or remove them, and run "
            "the same command again; the others are written."
        )


def write_bytes(path, contents):
    """Writes beside and renames, so that a file that is there is whole."""
    folder, file = os.path.split(path)
    partial = os.path.join(folder, f".{file}.partial")
    with open(partial, "wb") as handle:
        handle.write(contents)
    os.replace(partial, path)


def write_lines(path, lines):
    """A text file, one line each."""
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def read_image(path, mode=None):
    """A decoded Pillow image.

    Args:
      path: image file.
      mode: to convert to; None = as stored.

    Raises:
      ValueError: unreadable or damaged; names the file.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image.convert(mode) if mode else image.copy()
    except (
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None


def png(pixels, palette=None):
    """Bytes of a PNG.

    Args:
      pixels: uint8 array [H, W, 3], or [H, W].
      palette: RGB of the values of [H, W]; None = gray.
    """
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([value for color in palette for value in color])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _read(dir):
    """The stamp of a folder, None if there is none."""
    try:
        with open(os.path.join(dir, STAMP), encoding="utf-8") as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return None
    known = isinstance(stamp, dict) and {"settings", "complete"} <= set(stamp)
    return stamp if known else None


def _write(dir, settings, complete):
    stamp = {"settings": settings, "complete": complete}
    text = json.dumps(stamp, indent=2, sort_keys=True)
    write_lines(os.path.join(dir, STAMP), [text])
