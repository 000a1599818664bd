# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tfseg import mask_code
from tfseg.data.checks import mask_guess
from tfseg.datasets import base


def _scene(num_classes, seed=0):
    """Discs and thin lines of many classes, uint8 [120, 160]."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (160, 120), 0)
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = rng.integers(0, 160), rng.integers(0, 120)
        radius = rng.integers(8, 40)
        box = [x - radius, y - radius, x + radius, y + radius]
        draw.ellipse(box, fill=int(rng.integers(1, num_classes)))
        end = [int(rng.integers(0, 160)), int(rng.integers(0, 120))]
        label = int(rng.integers(1, num_classes))
        draw.line([int(x), int(y), *end], fill=label, width=2)
    return np.asarray(image)


def _as_jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _scaled(pixels, how):
    return np.asarray(Image.fromarray(pixels).resize((100, 75), how))


def _code(num_classes):
    palette = base.voc_palette(num_classes)
    return mask_code.MaskCode(palette, tuple(range(num_classes)))


@pytest.mark.parametrize("seed", range(5))
def test_drawn_masks_are_not_lossy_and_spoiled_ones_are(seed):
    scene = _scene(21, seed)
    assert not mask_guess.looks_lossy(scene)
    nearest = _scaled(scene, Image.Resampling.NEAREST)
    assert not mask_guess.looks_lossy(nearest)
    assert mask_guess.looks_lossy(_scaled(scene, Image.Resampling.BILINEAR))
    for quality in (50, 75, 90):
        assert mask_guess.looks_lossy(_as_jpeg(scene, quality)), quality


def test_outlines_and_layers_are_not_lossy():
    # A border class around each object, one pixel thick.
    mask = np.zeros([60, 60], np.uint8)
    for y in range(5, 50, 15):
        mask[y : y + 10, 5:50] = 1
        mask[y + 1 : y + 9, 6:49] = 2
    assert not mask_guess.looks_lossy(mask)
    # Layers, as of tissue, one upon the other.
    assert not mask_guess.looks_lossy(np.repeat(np.arange(20), 3)[:, None])
    assert not mask_guess.looks_lossy(np.zeros([1, 1], np.uint8))
    assert not mask_guess.looks_lossy(np.full([9, 9], 255, np.uint8))


def _explain_ids(values, num_classes):
    values = np.asarray(values, np.uint8)
    found = mask_guess.explain_ids(values, _code(num_classes), num_classes)
    return found and " ".join(found)


def test_guesses_about_ids():
    scene = _scene(3)
    assert "stretched" in _explain_ids([0, 127, 255, 127], 3)
    assert "divide the values by 127.5" in _explain_ids([0, 128], 3)
    assert "counted from 1" in _explain_ids(scene + 1, 3)
    colors = np.array(base.voc_palette(3), np.uint8)
    gray = np.asarray(Image.fromarray(colors[scene]).convert("L"))
    assert "color mask saved as gray" in _explain_ids(gray, 3)
    assert "JPEG" in _explain_ids(_as_jpeg(_scene(21), 75), 21)
    assert _explain_ids([[0, 1, 2, 9]], 3) is None
    assert _explain_ids([[0, 1], [2, 3]], 3) is None


def _explain_colors(pixels, num_classes=5):
    found = mask_guess.explain_colors(
        np.asarray(pixels, np.int32), base.voc_palette(num_classes), num_classes
    )
    return found and " ".join(found)


def test_guesses_about_colors():
    scene = _scene(5)
    pixels = np.array(base.voc_palette(5), np.uint8)[scene]
    for quality in (30, 75, 95):
        assert "JPEG" in _explain_colors(_as_jpeg(pixels, quality)), quality
    assert "BGR" in _explain_colors(pixels[..., ::-1])
    assert "class ids" in _explain_colors(np.repeat(scene[..., None], 3, -1))
    assert _explain_colors([[[1, 2, 3], [0, 0, 0]]]) is None
    # A photograph is nothing that the palette had become.
    noise = np.random.default_rng(0).integers(0, 256, [50, 50, 3])
    assert _explain_colors(noise) is None
    assert mask_guess.explain_colors(noise, (), 5) is None
