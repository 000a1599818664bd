# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits on paper: a small data set that needs no download.

Digits that people wrote (scikit-learn's `load_digits`, 8x8 pixels) stand at
random size, tilt and darkness on photographed paper: uneven light, stains,
grain. 64x64 pixels, ten classes and the background. Training, validation and
test scenes use different digits. On disk it is a `folder` data set.
"""

import dataclasses
import json
import os
import shutil
import tempfile
from typing import Callable, Tuple

import numpy as np
from PIL import Image

from tfseg.datasets import base, folder

SIDE = 64
_VERSION = 1
_PARTS = ("train", "val", "test")
# Shares of the digits that the scenes of each part may use.
_DIGIT_SHARES = (0.6, 0.2, 0.2)
# Ink of pens: black, blue, red, green, as RGB in 0..1.
_INKS = np.array(
    [(0.1, 0.1, 0.12), (0.1, 0.15, 0.5), (0.55, 0.1, 0.1), (0.08, 0.35, 0.2)]
)


@dataclasses.dataclass(frozen=True)
class Scenes:
    """A data set of scenes with handwritten digits.

    Attributes:
      name: of the data set.
      class_names: one per class.
      palette: RGB per class.
      compose: (random generator, ink float32 [N, 8, 8] in 0..1 of the digits
        to choose from, int [N], which digits they are) -> (image uint8
        [SIDE, SIDE, 3], label uint8 [SIDE, SIDE]).
    """

    name: str
    class_names: Tuple[str, ...]
    palette: Tuple[base.Color, ...]
    compose: Callable

    @property
    def stamp(self):
        """Name of the file that says how the scenes were made."""
        return f"{self.name}.json"


def build(*, dir, image_labels=False):
    """The data set that `prepare` has written.

    Args:
      dir: its folder.
      image_labels: give each training scene the classes of its mask, as if
        only they were known.

    Returns:
      base.Dataset.

    Raises:
      ValueError: it is not there; says the command that writes it.
    """
    return build_scenes(_SCENES, dir, image_labels)


def build_scenes(scenes, dir, image_labels):
    """`build` of any scenes."""
    if not os.path.exists(os.path.join(dir, scenes.stamp)):
        raise ValueError(
            f"{dir or '(empty)'}: `config.dataset.dir` does not hold the data "
            f"set {scenes.name}. Fix: python -m launch.prepare "
            f"--dataset={scenes.name} --dir={dir or f'data/{scenes.name}'}"
        )
    dataset = folder.build(dir=dir)
    info = dataclasses.replace(dataset.info, name=scenes.name)
    records = dict(dataset.records)
    for name in dataset.partitions["train"] if image_labels else ():
        record = records[name]
        records[name] = dataclasses.replace(
            record, classes=_shown(record.label)
        )
    return dataclasses.replace(dataset, info=info, records=records)


def _shown(path):
    """Labels in a mask, without the background."""
    with Image.open(path) as mask:
        return tuple(np.unique(np.asarray(mask))[1:].tolist())


def prepare(*, dir, seed=0, num_train=1200, num_validation=200, num_test=200):
    """Writes the data set; the same bytes for the same settings.

    It is written beside and renamed, so a folder that is there is complete;
    one with the same settings is left as it is.

    Args:
      dir: folder to write.
      seed: int >= 0.
      num_train: training scenes.
      num_validation: validation scenes.
      num_test: test scenes.

    Raises:
      ValueError: `dir` holds something else, or scikit-learn is missing.
    """
    settings = {
        "seed": seed,
        "num_train": num_train,
        "num_validation": num_validation,
        "num_test": num_test,
    }
    prepare_scenes(_SCENES, dir, settings)


def prepare_scenes(scenes, dir, settings):
    """`prepare` of any scenes; settings: the other arguments, by name."""
    settings = {"version": _VERSION, **settings}
    _check_settings(scenes, dir, settings)
    if _is_there(scenes, dir, settings):
        return
    parent = os.path.dirname(os.path.abspath(dir))
    os.makedirs(parent, exist_ok=True)
    partial = tempfile.mkdtemp(prefix=f".{scenes.name}-", dir=parent)
    try:
        _write(scenes, partial, settings)
        os.chmod(partial, 0o755)
        # An empty folder gives way to it; nothing else does.
        os.rename(partial, dir)
    except OSError:
        # Another process may have been faster.
        if not _is_there(scenes, dir, settings):
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_settings(scenes, dir, settings):
    if not dir:
        raise ValueError(f"`dir` is empty. Fix: --dir=data/{scenes.name}")
    for name, value in settings.items():
        least = 0 if name == "seed" else 1
        if value < least:
            raise ValueError(
                f"`{name}` must be {least} or more. Received: {name}={value}."
            )


def _is_there(scenes, dir, settings):
    """True if `dir` is complete, False if it is absent or empty."""
    if not os.path.exists(dir) or (os.path.isdir(dir) and not os.listdir(dir)):
        return False
    path = os.path.join(dir, scenes.stamp)
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        raise ValueError(
            f"{dir}: is there but is not the data set {scenes.name} (no "
            f"readable {scenes.stamp}). Fix: choose another --dir, or remove "
            "it."
        ) from None
    changes = [
        f"{name} is {found.get(name)}, asked for {value}"
        for name, value in settings.items()
        if found.get(name) != value
    ]
    if changes:
        raise ValueError(
            f"{dir}: holds {scenes.name} with other settings: "
            f"{'; '.join(changes)}. Fix: choose another --dir, or remove it."
        )
    return True


def _write(scenes, dir, settings):
    """Writes everything, the stamp last."""
    digits = _divide_digits(settings["seed"])
    for name in ("images", "labels", "splits"):
        os.makedirs(os.path.join(dir, name))
    sizes = ("num_train", "num_validation", "num_test")
    for number, (part, size) in enumerate(zip(_PARTS, sizes)):
        ids = [f"{part}_{i:05d}" for i in range(settings[size])]
        for i, name in enumerate(ids):
            # A scene does not depend on how many others there are.
            rng = np.random.default_rng([settings["seed"], number, i])
            image, label = scenes.compose(rng, *digits[part])
            _save(dir, name, image, label, scenes.palette)
        _write_lines(os.path.join(dir, "splits", f"{part}.txt"), ids)
    _write_lines(
        os.path.join(dir, "classes.txt"),
        [
            f"{name} {red} {green} {blue}"
            for name, (red, green, blue) in zip(
                scenes.class_names, scenes.palette
            )
        ],
    )
    lines = [json.dumps(settings, indent=2)]
    _write_lines(os.path.join(dir, scenes.stamp), lines)


def _divide_digits(seed):
    """Part -> (ink of its digits: float32 [N, 8, 8] in 0..1, int [N])."""
    try:
        from sklearn import datasets
    except ImportError:
        raise ValueError(
            "Handwritten digits need scikit-learn. Fix: "
            "pip install -e .[demo]"
        ) from None
    bunch = datasets.load_digits()
    ink = (bunch.images / 16).astype(np.float32)
    order = np.random.default_rng([seed, len(_PARTS)]).permutation(len(ink))
    bounds = np.cumsum(_DIGIT_SHARES[:-1]) * len(ink)
    parts = np.split(order, bounds.astype(int))
    return {
        part: (ink[chosen], bunch.target[chosen])
        for part, chosen in zip(_PARTS, parts)
    }


def _compose(rng, ink, target):
    """One scene: (uint8 [64, 64, 3], uint8 [64, 64])."""
    image = _paper(rng)
    label = np.zeros([SIDE, SIDE], np.uint8)
    for _ in range(rng.integers(2, 5)):
        chosen = rng.integers(len(ink))
        # 8 pixels become 18 to 32.
        stroke = tilted(rng, ink[chosen], (2.25, 4))
        place = free_place(rng, stroke > 0.1, label > 0)
        if place is None:
            continue
        strength = rng.uniform(0.55, 0.95)
        color = _INKS[rng.integers(len(_INKS))] + rng.normal(0, 0.04, 3)
        alpha = strength * stroke[..., None]
        image[place] += alpha * (color - image[place])
        label[place][stroke > 0.5] = target[chosen] + 1
    image += rng.normal(0, rng.uniform(0.01, 0.04), image.shape)
    return (image.clip(0, 1) * 255).round().astype(np.uint8), label


def _paper(rng):
    """float [64, 64, 3]: a tint, a gradient of light, stains."""
    tint = rng.uniform(0.6, 0.95) * rng.uniform(0.85, 1, 3)
    light = gradient(rng, 0.2)
    for cells in (4, 10):
        stains = rng.normal(0, rng.uniform(0.02, 0.07), [cells, cells])
        light += stretched(stains, SIDE)
    return tint + light[..., None]


def gradient(rng, most):
    """float [64, 64]: light that falls off in a random direction.

    Args:
      rng: random generator.
      most: largest change from the middle to a side.
    """
    axis = np.linspace(-1, 1, SIDE)
    angle = rng.uniform(0, 2 * np.pi)
    light = np.cos(angle) * axis[:, None] + np.sin(angle) * axis
    return rng.uniform(0, most) * light


def tilted(rng, ink, scales):
    """float32 [h, w], coverage of one digit at random size and tilt.

    Args:
      rng: random generator.
      ink: float32 [8, 8] in 0..1.
      scales: range of the factor by which it grows.
    """
    scale = rng.uniform(*scales)
    # A margin, as the tilt moves corners out and strokes end at the border.
    ink = np.pad(ink, 2)
    image = Image.fromarray(stretched(ink, round(scale * len(ink))))
    image = image.rotate(rng.uniform(-25, 25), Image.Resampling.BICUBIC)
    # Strokes with edges, not the blur of 8 pixels stretched to 32.
    stroke = np.clip(np.asarray(image) * 2.5 - 0.75, 0, 1)
    return stroke[np.ix_(stroke.any(1), stroke.any(0))]


def stretched(values, side):
    """float32 [side, side] of a smaller square."""
    image = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def free_place(rng, stroke, taken):
    """Slices where a stroke touches no other; None if none was found.

    Args:
      rng: random generator.
      stroke: bool [h, w].
      taken: bool [64, 64].
    """
    height, width = stroke.shape
    for _ in range(30):
        y = rng.integers(0, SIDE - height + 1)
        x = rng.integers(0, SIDE - width + 1)
        place = (slice(y, y + height), slice(x, x + width))
        if not (stroke & taken[place]).any():
            return place
    return None


def _save(dir, name, image, label, palette):
    Image.fromarray(image).save(
        os.path.join(dir, "images", f"{name}.jpg"), quality=92
    )
    mask = Image.fromarray(label)
    mask.putpalette([value for color in palette for value in color])
    mask.save(os.path.join(dir, "labels", f"{name}.png"))


def _write_lines(path, lines):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


_SCENES = Scenes(
    name="digits",
    class_names=("background", *"0123456789"),
    palette=(
        (40, 40, 48),
        (230, 25, 75),
        (60, 180, 75),
        (255, 225, 25),
        (0, 130, 200),
        (245, 130, 48),
        (145, 30, 180),
        (70, 240, 240),
        (240, 50, 230),
        (170, 255, 195),
        (170, 110, 40),
    ),
    compose=_compose,
)
