# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits on a chalkboard, even or odd: a second domain.

The handwritten digits of the data set `digits`, divided among training,
validation and test scenes in the same way, in another style and with other
classes: even and odd. Light strokes of chalk, with gaps where the board shows
through, stand on a dark board with the dust of what was wiped off, and with
traces of it, faint digits that belong to the background. 64x64 pixels. On disk
it is a `folder` data set.
"""

import numpy as np
from PIL import Image

from tfseg.datasets import digits

# Boards: green, black, slate, brown, as RGB in 0..1.
_BOARDS = np.array(
    [
        (0.10, 0.24, 0.18),
        (0.12, 0.13, 0.13),
        (0.15, 0.19, 0.26),
        (0.22, 0.17, 0.13),
    ]
)
# Chalk: white twice, yellow, pink, light blue.
_CHALKS = np.array(
    [
        (0.93, 0.93, 0.90),
        (0.93, 0.93, 0.90),
        (0.93, 0.86, 0.50),
        (0.93, 0.66, 0.70),
        (0.62, 0.80, 0.93),
    ]
)
# 8 pixels become 15 to 26.
_SCALES = (1.9, 3.25)


def build(*, dir, image_labels=False):
    """The data set that `prepare` has written.

    Args:
      dir: its folder.
      image_labels: see `digits.build`.

    Returns:
      base.Dataset.

    Raises:
      ValueError: it is not there; says the command that writes it.
    """
    return digits.build_scenes(_SCENES, dir, image_labels)


def prepare(*, dir, seed=0, num_train=1200, num_validation=200, num_test=200):
    """Writes the data set; see `digits.prepare`.

    With the same seed as there, no digit of the training scenes of the one
    data set is in the validation or test scenes of the other.

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
    digits.prepare_scenes(_SCENES, dir, settings)


def _compose(rng, ink, target):
    """One scene: (uint8 [64, 64, 3], uint8 [64, 64])."""
    image = _wiped_board(rng, ink)
    label = np.zeros([digits.SIDE, digits.SIDE], np.uint8)
    for _ in range(rng.integers(3, 7)):
        chosen = rng.integers(len(ink))
        stroke = digits.tilted(rng, ink[chosen], _SCALES)
        place = digits.free_place(rng, stroke > 0.1, label > 0)
        if place is None:
            continue
        color = _CHALKS[rng.integers(len(_CHALKS))]
        _draw(rng, image, place, stroke, rng.uniform(0.6, 0.9), color)
        label[place][stroke > 0.5] = 1 + target[chosen] % 2
    image += rng.normal(0, rng.uniform(0.01, 0.03), image.shape)
    return (image.clip(0, 1) * 255).round().astype(np.uint8), label


def _draw(rng, image, place, stroke, strength, color):
    """Draws a stroke of chalk: grains of the board stay free of it."""
    grain = rng.normal(0, 1, stroke.shape)
    covered = np.clip(1 + rng.uniform(0.2, 0.5) * (grain - 0.3), 0.15, 1)
    alpha = (strength * covered * stroke)[..., None]
    image[place] += alpha * (color - image[place])


def _wiped_board(rng, ink):
    """float [64, 64, 3]: a board, traces of digits, what an eraser left."""
    tint = _BOARDS[rng.integers(len(_BOARDS))] * rng.uniform(0.8, 1.4)
    light = tint.mean() * digits.gradient(rng, 0.5)
    image = tint + light[..., None]
    free = np.zeros([digits.SIDE, digits.SIDE], bool)
    for _ in range(rng.integers(0, 4)):
        stroke = digits.tilted(rng, ink[rng.integers(len(ink))], _SCALES)
        place = digits.free_place(rng, stroke > 0.1, free)
        _draw(rng, image, place, stroke, rng.uniform(0.08, 0.2), _CHALKS[0])
    return image + _dust(rng)[..., None]


def _dust(rng):
    """float [64, 64]: clouds, and the streaks of a wipe in one direction."""
    side = digits.SIDE
    dust = np.zeros([side, side], np.float32)
    for cells in (3, 8):
        dust += digits.stretched(rng.normal(0, 0.03, [cells, cells]), side)
    # Stretched far more along the wipe than across; turned on a larger square.
    streaks = rng.normal(0, rng.uniform(0.02, 0.06), [4, 40])
    size = (2 * side, 2 * side)
    wipe = Image.fromarray(streaks.astype(np.float32))
    wipe = wipe.resize(size, Image.Resampling.BICUBIC)
    wipe = wipe.rotate(rng.uniform(0, 180), Image.Resampling.BICUBIC)
    start = side // 2
    return dust + np.asarray(wipe)[start : start + side, start : start + side]


_SCENES = digits.Scenes(
    name="board",
    class_names=("background", "even", "odd"),
    palette=((40, 60, 48), (255, 200, 60), (90, 170, 255)),
    compose=_compose,
)
