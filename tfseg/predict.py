# SPDX-License-Identifier: Apache-2.0
"""Predictions of a trained run for files of the user's, as pictures."""

import collections
import glob
import os
import pathlib

import numpy as np
import tensorflow as tf
import tqdm
from absl import logging

from tfseg import evaluate, id_lists, inference, runs
from tfseg.data import check, decode

SUFFIXES = (".jpg", ".jpeg", ".png")
# A larger image goes by tiles: its probabilities would not fit in memory.
WHOLE_SIDE = 2048
TILE = 1024
# What is written of each image, in the order of `render`.
ENDINGS = (".png", "_overlay.png", "_confidence.png")


def predict_files(
    workdir,
    *,
    input,
    output,
    checkpoint="best",
    network="",
    overwrite=False,
    max_pixels=None,
    **options,
):
    """Writes class map, overlay and confidence of each image.

    An image that cannot be read is left out, and the others are done.

    Args:
      workdir: of `launch.train`.
      input: image file, folder (with sub-folders) or glob pattern.
      output: folder to write to; sub-folders of the input are kept.
      checkpoint: "best", "last" or a path.
      network: see `runs.load`.
      overwrite: replace files that exist.
      max_pixels: a larger image is refused; None = as in the run's config.
      **options: see evaluate.open_predictor.

    Returns:
      list of (path, reason) of the images that were left out.

    Raises:
      ValueError: nothing to do, or an output would replace a file; before
        anything is written.
      OSError: cannot write.
    """
    targets = plan(find_images(input, output), output)
    if not overwrite:
        _refuse_existing(targets)
    run = runs.load(workdir, checkpoint, network)
    look = looker(run, **options)
    limit = max_pixels or run.config.data.max_pixels
    failures = []
    for source in tqdm.tqdm(targets, unit="image"):
        try:
            image = _read(source, limit)
            class_map, confidence = look(image)
        except (ValueError, OSError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())
            logging.error("%s is left out: %s", source, reason)
            failures.append((source, reason))
            continue
        pictures = render(image, class_map, confidence, run.info.palette)
        for path, picture in zip(targets[source], pictures):
            write_file(path, picture)
    return failures


def find_images(input, output):
    """Images that an input names, as {path: its place below the input}.

    Args:
      input: file, folder or glob pattern (** = any sub-folders).
      output: a folder; what is below it was written by an earlier run.

    Raises:
      ValueError: there are none.
    """
    if os.path.isfile(input):
        return {input: os.path.basename(input)}
    if os.path.isdir(input):
        root = input
        found = [
            path
            for path in id_lists.files_below(input)
            if path.lower().endswith(SUFFIXES)
        ]
    else:
        root = _fixed_folder(input)
        found = glob.glob(input, recursive=True)
    images = {
        path: os.path.relpath(path, root)
        for path in sorted(found)
        if os.path.isfile(path) and not _is_output(path, root, output)
    }
    if not images:
        raise ValueError(
            f"No image matches `--input` {input!r}. Give an image, a folder "
            f"with {', '.join(SUFFIXES)} files, or a pattern in quotes."
        )
    return images


def plan(images, output):
    """Files to write, {path of image: paths in the order of `ENDINGS`}.

    Raises:
      ValueError: two would be the same file, or an image would be replaced.
    """
    targets = {
        path: [
            os.path.join(output, os.path.splitext(place)[0] + ending)
            for ending in ENDINGS
        ]
        for path, place in images.items()
    }
    sources = collections.defaultdict(list)
    for path, outputs in targets.items():
        for target in outputs:
            sources[os.path.realpath(target)].append(path)
    for target, paths in sources.items():
        if len(paths) > 1:
            raise ValueError(
                f"{paths[0]} and {paths[1]} would both be written to "
                f"{target}. Rename one or predict them into two folders."
            )
    for path in images:
        if os.path.realpath(path) in sources:
            raise ValueError(
                f"The image {path} would be replaced by a prediction. Choose "
                "another `--output` folder."
            )
    return targets


def render(image, class_map, confidence, palette):
    """PNG bytes of index map, colors over the image, and confidence.

    Args:
      image: numpy uint8 [H, W, 3].
      class_map: numpy uint8 [H, W].
      confidence: numpy uint8 [H, W].
      palette: RGB of each class.
    """
    colors = np.asarray(palette, np.uint8)[class_map]
    overlay = image // 2 + colors // 2
    return (
        decode.encode_label(class_map, palette),
        tf.io.encode_png(overlay).numpy(),
        tf.io.encode_png(confidence[..., None]).numpy(),
    )


def looker(run, **options):
    """How a run looks at an image: as a whole, or by tiles if it is large.

    Args:
      run: runs.Run.
      **options: see evaluate.open_predictor.

    Returns:
      Function: uint8 [H, W, 3] -> class map uint8 [H, W] and confidence uint8
      [H, W], the largest probability times 255.
    """
    whole = evaluate.open_predictor(run, **options)
    tiled = whole
    if whole.window is None:
        tiled = evaluate.open_predictor(run, **options | {"window": TILE})

    def look(image):
        if whole.window or max(image.shape) > WHOLE_SIDE:
            return inference.predict_tiled(tiled, image)
        prob = whole(image[None])[0].numpy()
        confidence = np.rint(prob.max(-1) * 255.0)
        return prob.argmax(-1).astype(np.uint8), confidence.astype(np.uint8)

    return look


def _read(path, max_pixels):
    """Numpy uint8 [H, W, 3]; ValueError if it cannot be read."""
    # The header first: a small file can hold an enormous image.
    _, findings = check.check_images([path], max_pixels=max_pixels)
    if findings:
        raise ValueError(f"{findings[0].message}. Fix: {findings[0].fix}.")
    return decode.decode_image(tf.io.read_file(path)).numpy()


def _is_output(path, root, output):
    """Whether a file is in the output folder, and that is below the input."""
    output = pathlib.Path(output).resolve()
    below = pathlib.Path(root).resolve() in output.parents
    return below and output in pathlib.Path(path).resolve().parents


def _fixed_folder(pattern):
    """The part of a glob pattern before its first wildcard."""
    parts = pathlib.Path(pattern).parts[:-1]
    fixed = []
    for part in parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return os.path.join("", *fixed) or "."


def _refuse_existing(targets):
    existing = [
        path
        for outputs in targets.values()
        for path in outputs
        if os.path.lexists(path)
    ]
    if existing:
        raise ValueError(
            f"{existing[0]} exists already ({len(existing)} such files). "
            "Choose another `--output` folder, or give --overwrite to "
            "replace them."
        )


def write_file(path, data):
    """Writes beside and renames, so that a killed run leaves no half file.

    Raises:
      OSError: cannot write.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    partial = f"{path}.partial"
    with open(partial, "wb") as file:
        file.write(data)
    os.replace(partial, path)
