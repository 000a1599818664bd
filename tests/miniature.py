# SPDX-License-Identifier: Apache-2.0
"""A user's folder in miniature, and a config that trains on it in seconds."""

import functools
import os
import subprocess
import sys

import numpy as np
from PIL import Image

from tests import preloaded

COLORS = [0, 0, 0, 200, 30, 30, 30, 200, 30]


def make_folder(path, *, labeled=6, unlabeled=6, size=16, seed=0):
    """Images with a bright disc of class 1 or 2 on gray; palette masks."""
    draw = np.random.default_rng(seed)
    (path / "images").mkdir(parents=True)
    (path / "labels").mkdir()
    for i in range(labeled + unlabeled):
        kind = 1 + i % 2
        y, x = np.mgrid[:size, :size]
        center = draw.uniform(size * 0.3, size * 0.7, 2)
        inside = (y - center[0]) ** 2 + (x - center[1]) ** 2 < size
        mask = np.where(inside, kind, 0).astype(np.uint8)
        image = draw.integers(60, 120, (size, size, 3)).astype(np.uint8)
        image[inside, kind] = 230
        suffix = "jpg" if i % 3 else "png"
        Image.fromarray(image).save(path / "images" / f"im{i:02}.{suffix}")
        if i < labeled:
            label = Image.fromarray(mask)
            label.putpalette(COLORS)
            label.save(path / "labels" / f"im{i:02}.png")
    (path / "classes.txt").write_text("ground\nred disc\ngreen disc\n")
    return path


def config(folder, method="cutmix", **overrides):
    """A config of `configs/folder_<method>.py`, made small.

    It validates and saves at its end alone and draws no pictures: who tests
    these asks for them.

    Args:
      folder: of `make_folder`.
      method: "cutmix" or "supervised".
      **overrides: values by field, dots written as two underscores.
    """
    import importlib

    module = importlib.import_module(f"configs.folder_{method}")
    result = module.get_config(f"dir={folder},crop=16,steps=6")
    result.network.width = 8
    result.train.labeled_batch = 2
    result.train.unlabeled_batch = 4
    result.train.report_every = 2
    result.train.evaluate_every = 6
    result.train.checkpoint_every = 6
    result.train.num_pictures = 0
    result.split.validation_fraction = 0.34
    for name, value in overrides.items():
        *sections, field = name.split("__")
        functools.reduce(getattr, sections, result)[field] = value
    return result


def flags(config_object):
    """Command-line overrides that turn `folder_cutmix` into the config."""
    from configs import folder_cutmix
    from tfseg import config as config_lib

    old = config_lib.flatten(folder_cutmix.get_config(""))
    words = []
    for field, value in config_lib.flatten(config_object).items():
        if old.get(field) != value:
            text = tuple(value) if isinstance(value, list) else value
            words.append(f"--config.{field}={text}")
    return ["--config=configs/folder_cutmix.py", *words]


def command(module, *words, **environment):
    """Arguments of subprocess for `python -m launch.<module> words...`."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return dict(
        args=[sys.executable, "-m", f"launch.{module}", *map(str, words)],
        cwd=root,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
    )


def run(module, *words, **environment):
    """Runs a script to its end; returns CompletedProcess with its output.

    In a process of its own, forked from one that has imported TensorFlow
    unless the environment is another.
    """
    script = command(module, *words, **environment)
    if not environment:
        return preloaded.run(**script)
    return subprocess.run(**script, capture_output=True, text=True)
