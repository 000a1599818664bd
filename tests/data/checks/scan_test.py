# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from PIL import Image

from tfseg import mask_code
from tfseg.data.checks import scan


def _save(folder, name, pixels, **options):
    path = str(folder / name)
    if not isinstance(pixels, Image.Image):
        pixels = Image.fromarray(np.asarray(pixels))
    pixels.save(path, **options)
    return path


def _noise(height, width):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, [height, width, 3]).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path, name, _noise(4, 8), exif=exif)
    prints, findings = scan.scan_images([path])
    assert prints[0] is not None
    if orientation == 1:
        assert findings == []
    else:
        assert [(x.kind, x.value) for x in findings] == [
            ("turned", orientation)
        ]


def test_plain_images_have_no_finding(tmp_path):
    gray = _noise(6, 5)[..., 0]
    paths = [
        _save(tmp_path, "a.png", _noise(6, 5)),
        _save(tmp_path, "b.jpg", _noise(6, 5)),
        _save(tmp_path, "c.png", gray),
        _save(tmp_path, "d.png", Image.fromarray(gray).convert("P")),
        _save(tmp_path, "e.png", Image.fromarray(_noise(6, 5)).convert("RGBA")),
    ]
    prints, findings = scan.scan_images(paths)
    assert findings == [] and None not in prints
    assert prints[0].digest == prints[4].digest != prints[1].digest
    assert scan.scan_images([]) == ([], [])


def test_deep_and_cmyk_images(tmp_path):
    deep = np.linspace(0, 4095, 64).reshape(8, 8).astype(np.uint16)
    cmyk = Image.fromarray(_noise(8, 8)).convert("CMYK")
    paths = [
        _save(tmp_path, "deep.png", deep),
        _save(tmp_path, "cmyk.jpg", cmyk),
    ]
    _, findings = scan.scan_images(paths)
    # 12 bits in 16: of the upper 8 only 4 vary.
    assert [(x.kind, x.value) for x in findings] == [
        ("deep_image", 16),
        ("cmyk_image", "CMYK"),
    ]


def test_damage_behind_a_good_header_is_found(tmp_path):
    path = _save(tmp_path, "a.png", _noise(50, 50))
    content = bytearray(open(path, "rb").read())
    content[len(content) // 2] ^= 255
    with open(path, "wb") as file:
        file.write(content)
    prints, findings = scan.scan_images([path])
    assert prints == [None] and findings[0].kind == "damaged"


def test_masks_of_0_and_255(tmp_path):
    mask = np.zeros([8, 8], np.uint8)
    mask[2:5, 2:6] = 255
    paths = [
        _save(tmp_path, "bad.png", mask),
        _save(tmp_path, "good.png", mask // 255),
        _save(tmp_path, "empty.png", mask * 0),
        _save(tmp_path, "edge.png", np.where(mask, 255, 1).astype(np.uint8)),
    ]
    plain = mask_code.MaskCode()
    digests, findings = scan.scan_masks(paths, plain, 2)
    assert len(set(digests)) == 4
    assert [(x.file, x.kind, x.value) for x in findings] == [
        (paths[0], "binary_255", (0, 255))
    ]
    assert "18.8% of the pixels" in findings[0].message
    assert scan.scan_masks(paths, plain, 3)[1] == []
    # A data set may say that 255 is its second class.
    table = list(mask_code.index_labels({0: 0, 1: 1}))
    table[255] = 1
    lesions = mask_code.MaskCode((), (), tuple(table))
    digests, findings = scan.scan_masks(paths, lesions, 2)
    assert findings == [] and digests[0] == digests[1]


def test_lossy_masks_are_judged_by_what_is_stored(tmp_path):
    smooth = np.repeat(np.linspace(0, 8, 30), 30).reshape(30, 30)
    smooth = np.concatenate([smooth, smooth[::-1]], 1).round().astype(np.uint8)
    steep = np.kron(np.eye(8), np.full([7, 7], 8)).astype(np.uint8)
    blurred = Image.fromarray(steep).resize((97, 97), Image.Resampling.BILINEAR)
    paths = [
        _save(tmp_path, "smooth.png", smooth),
        _save(tmp_path, "blurred.png", blurred),
    ]
    # The labels of neighboring ids have nothing to do with each other.
    order = np.random.default_rng(0).permutation(9)
    code = mask_code.MaskCode(
        (), (), mask_code.index_labels(dict(enumerate(order.tolist())))
    )
    for some_code in (code, mask_code.MaskCode()):
        _, findings = scan.scan_masks(paths, some_code, 9)
        assert [(x.file, x.kind) for x in findings] == [
            (paths[1], "lossy_mask")
        ]
