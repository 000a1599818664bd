# SPDX-License-Identifier: Apache-2.0
import io
import time

import numpy as np
from PIL import Image

from tfseg.data.checks import duplicates


def _picture(seed, height=90, width=120):
    """Blobs of color at random, as smooth as a photograph."""
    noise = np.random.default_rng(seed).integers(0, 256, [7, 9, 3], np.uint8)
    size = (width, height)
    return np.asarray(
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    )


def _jpeg(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _find(images, parts, masks=None):
    names = [f"{i}.png" for i in range(len(images))]
    prints = [None if x is None else duplicates.fingerprint(x) for x in images]
    masks = masks or [None] * len(images)
    return duplicates.find(names, prints, parts, masks)


def _kinds(findings):
    return [(x.kind, x.file, x.value) for x in findings]


def test_copies_are_found_however_they_were_saved():
    original = _picture(0)
    copies = [
        _jpeg(original, 40),
        np.asarray(Image.fromarray(original).resize((60, 45))),
        (255 * (original / 255) ** 0.8).astype(np.uint8),
        np.repeat(
            np.asarray(Image.fromarray(original).convert("L"))[..., None], 3, -1
        ),
    ]
    for copy in copies:
        found = _find([original, copy, _picture(1)], ["labeled"] * 3)
        assert _kinds(found) == [("near_repeat", "1.png", "0.png")]
    mirrored = original[:, ::-1].copy()
    assert _find([original, mirrored], ["labeled"] * 2) == []


def test_different_pictures_are_no_copies():
    images = [_picture(seed) for seed in range(300)]
    # Nor are two gray walls, which have no layout to compare.
    images += [np.full([20, 20, 3], level, np.uint8) for level in (90, 200)]
    assert _find(images, ["unlabeled"] * len(images)) == []


def test_leaks_go_before_repeats_and_name_both_parts():
    a, b = _picture(0), _picture(1)
    images = [a, a, b, a, _jpeg(b, 60), a]
    parts = ["labeled", "validation", "unlabeled", "test", "validation", None]
    found = _find(images, parts)
    assert _kinds(found) == [
        ("exact_leak", "1.png", "0.png"),
        ("near_leak", "4.png", "2.png"),
        ("exact_leak", "3.png", "0.png"),
    ]
    assert "this one is in validation, that one in labeled" in found[0].message
    assert found[0].severity == "warning"
    within = _find([a, a, None], ["labeled", "unlabeled", "labeled"])
    assert _kinds(within) == [("exact_repeat", "1.png", "0.png")]
    assert "both in labeled and unlabeled" in within[0].message
    assert within[0].severity == "note"


def test_equal_images_with_different_masks_contradict():
    a = _picture(0)
    parts = ["labeled"] * 3
    found = _find([a, a, a], parts, [b"x", b"y", b"x"])
    assert _kinds(found) == [
        ("contradiction", "1.png", "0.png"),
        ("exact_repeat", "2.png", "0.png"),
    ]


def test_size_is_part_of_the_pixels():
    image = np.zeros([4, 6, 3], np.uint8)
    turned = image.reshape(6, 4, 3)
    prints = [duplicates.fingerprint(x) for x in (image, turned)]
    assert prints[0].digest != prints[1].digest


def test_hash_is_that_of_a_plain_cosine_transform():
    gray = np.random.default_rng(0).integers(0, 256, [32, 32])
    low = np.zeros([8, 8])
    for u in range(8):
        for v in range(8):
            for y in range(32):
                low[u, v] += np.cos(np.pi * u * (y + 0.5) / 32) * np.dot(
                    gray[y], np.cos(np.pi * v * (np.arange(32) + 0.5) / 32)
                )
    expected = low.ravel() > np.median(low.ravel()[1:])
    bits = np.unpackbits(duplicates.perceptual_hash(gray)).astype(bool)
    np.testing.assert_array_equal(bits, expected)


def test_twenty_thousand_are_compared_in_seconds():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 256, [20_000, 8]).astype(np.uint8)
    thumbnails = rng.integers(0, 256, [20_000, 256]).astype(np.uint8)
    copies, originals = np.arange(15_000, 15_050), np.arange(50)
    bits[copies], thumbnails[copies] = bits[originals], thumbnails[originals]
    bits[copies, 0] ^= 0b101
    # Equal bits are not enough.
    bits[19_999] = bits[0]
    start = time.monotonic()
    found, different = duplicates.nearest(bits, thumbnails)
    assert time.monotonic() - start < 60  # 2 seconds on two free cores.
    np.testing.assert_array_equal(found[copies], originals)
    assert set(different[copies]) == {2}
    assert (found >= 0).sum() == 50
    others = bits[:50], thumbnails[:50]
    found, _ = duplicates.nearest(bits[copies], thumbnails[copies], others)
    np.testing.assert_array_equal(found, originals)
    none = duplicates.nearest(bits[:0], thumbnails[:0], others)[0]
    assert none.shape == (0,)
    empty = bits[:0], thumbnails[:0]
    assert set(duplicates.nearest(bits[:3], thumbnails[:3], empty)[0]) == {-1}
