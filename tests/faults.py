# SPDX-License-Identifier: Apache-2.0
"""A user's folder with one of each fault that the doctor looks for."""

import io
import os

import numpy as np
from PIL import Image

from tests import miniature
from tfseg.datasets import base

CLASSES = (
    *("ground", "red disc", "green disc", "wall", "roof"),
    *("only in validation", "in no mask"),
)
VALIDATION = ("im12", "im13", "im14", "im15")
# kind -> (file below the folder, words of value and message, word of the fix)
ERRORS = {
    "damaged": ("images/im16.jpg", ["truncated or damaged"], "again"),
    "no_image": ("images/im19.jpg", ["is not an image"], "remove"),
    "size_mismatch": ("labels/im01.png", ["32 x 64", "64 x 64"], "same size"),
    "unknown_ids": ("labels/im02.png", ["21, 37", "0..6"], "classes.txt"),
    "unknown_colors": ("labels/im03.png", ["palette", "JPEG"], "original"),
    "gray_colors": ("labels/im04.png", ["38", "saved as gray"], "color mask"),
    "mask_format": ("labels/im05.png", ["is a JPEG"], "PNG"),
}
WARNINGS = {
    "exact_leak": ("images/im13.png", ["im17.png", "validation"], "one part"),
    "near_leak": ("images/im14.jpg", ["im21.jpg", "bits"], "one part"),
    "contradiction": ("images/im10.png", ["im09.png", "differ"], "once"),
    "lossy_mask": ("labels/im07.png", ["interpolation"], "nearest neighbor"),
    "all_ignored": ("labels/im06.png", ["4,096 pixels"], "remove the mask"),
    "never_labeled": ("", ["1 of the 7", "in no mask"], "class list"),
    "not_in_training": (
        "labels/im12.png",
        ["'only in validation'"],
        "label training",
    ),
    "turned": ("images/im20.jpg", ["orientation 6", "90"], "exif_transpose"),
    "deep_image": ("images/im18.png", ["16 bits", "4 levels"], "save 8 bits"),
    "cmyk_image": ("images/im22.jpg", ["CMYK"], "RGB"),
}
NOTES = {
    "exact_repeat": ("images/im11.png", ["im08.png", "labeled"], "remove"),
    "smaller_than_crop": ("images/im23.jpg", ["8 x 8", "16 x 16"], "crop"),
}


def damage(path, size):
    """A PNG with a header and an end that are right, damaged in between."""
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(image).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def make_folder(path):
    """The folder of `ERRORS`, `WARNINGS` and `NOTES`, for a crop of 16."""
    miniature.make_folder(path, labeled=16, unlabeled=8, size=64)
    for file in sorted(os.listdir(path / "images")):
        _make_lossless(path / "images", file)
    (path / "classes.txt").write_text("\n".join(CLASSES))
    (path / "splits").mkdir()
    (path / "splits" / "val.txt").write_text("\n".join(VALIDATION))
    _plant_in_images(path / "images")
    _plant_in_masks(path / "labels")
    return path


def make_warnings(path):
    """The same folder without the errors."""
    make_folder(path)
    for file, _, _ in ERRORS.values():
        (path / file).unlink()
    return path


def _make_lossless(folder, file):
    """PNG, so that copies have the same pixels; JPEG where a fault needs it."""
    stem, suffix = os.path.splitext(file)
    wanted = ".jpg" if stem[2:] in "14 16 19 20 21 22 23".split() else ".png"
    if suffix != wanted:
        image = Image.open(folder / file)
        image.save(folder / f"{stem}{wanted}")
        (folder / file).unlink()


def _plant_in_images(folder):
    contents = (folder / "im16.jpg").read_bytes()
    (folder / "im16.jpg").write_bytes(contents[: len(contents) // 2])
    (folder / "im19.jpg").write_text("not an image")
    for copy, original in ((17, 13), (10, 9), (11, 8)):
        contents = (folder / f"im{original:02}.png").read_bytes()
        (folder / f"im{copy:02}.png").write_bytes(contents)
    image = Image.open(folder / "im14.jpg")
    image.resize((96, 96)).save(folder / "im21.jpg", quality=60)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(folder / "im20.jpg")
    image.save(folder / "im20.jpg", exif=exif)
    deep = np.random.default_rng(1).integers(0, 1024, (64, 64))
    Image.fromarray(deep.astype(np.uint16)).save(folder / "im18.png")
    image = Image.open(folder / "im22.jpg")
    image.convert("CMYK").save(folder / "im22.jpg")
    image = Image.open(folder / "im23.jpg")
    image.resize((8, 8)).save(folder / "im23.jpg")


def _plant_in_masks(folder):
    def save(number, pixels):
        pixels = np.asarray(pixels, np.uint8)
        Image.fromarray(pixels).save(folder / f"im{number:02}.png")

    def load(number):
        return np.array(Image.open(folder / f"im{number:02}.png"))

    colors = np.array(base.voc_palette(256), np.uint8)
    save(1, load(1)[:, :32])
    mask = load(2)
    mask[0, :3], mask[1, :2] = 21, 37
    save(2, mask)
    file = io.BytesIO()
    Image.fromarray(colors[load(3)]).save(file, "JPEG")
    save(3, Image.open(file))
    save(4, Image.fromarray(colors[load(4)]).convert("L"))
    Image.fromarray(load(5)).save(folder / "im05.png", "JPEG")
    save(6, np.full([64, 64], 255))
    checkers = 4 * (np.indices((5, 5)).sum(0) % 2)
    smooth = Image.fromarray(np.kron(checkers, np.ones([8, 8])).astype("u1"))
    save(7, smooth.resize((64, 64), Image.Resampling.BILINEAR))
    # The same image has another mask.
    save(10, load(8))
    # Not again the mask of the image that it has become.
    save(11, load(8))
    mask = load(12)
    mask[:4] = 5
    save(12, mask)
