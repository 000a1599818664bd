# SPDX-License-Identifier: Apache-2.0
"""What holds for every public data set; each has a file of its own besides."""

import json
import logging as std_logging
import os
import tempfile
import time

import numpy as np
import pytest
import tensorflow as tf

from configs import voc_supervised
from tests import miniature
from tests.datasets import miniatures
from tfseg import examples
from tfseg.data import check, decode, pipeline, splits
from tfseg.datasets import camvid, cityscapes, isic, sunrgbd, voc


def _voc(path):
    root = miniatures.voc(path / "voc")
    voc.prepare(dir=str(root), source=str(miniatures.sbd(path / "sbd")))
    return path / "voc"


# Name -> (writes a miniature, build, options, parts: number of images, label
# inside the disc, outside, in the row that is ignored).
DATASETS = {
    "voc": (_voc, voc.build, {}, (6, 2, 0), 12, 0, None),
    "voc_standard": (
        lambda path: miniatures.voc(path),
        voc.build,
        {"train": "standard", "image_labels": True},
        (3, 2, 0),
        12,
        0,
        0,
    ),
    "cityscapes": (
        miniatures.cityscapes,
        cityscapes.build,
        {},
        (4, 2, 2),
        13,
        0,
        -1,
    ),
    "cityscapes_extra": (
        lambda path: miniatures.cityscapes(path, extra=True),
        cityscapes.build,
        {"extra": True},
        (6, 2, 2),
        13,
        0,
        -1,
    ),
    "camvid": (miniatures.camvid_segnet, camvid.build, {}, (3, 2, 2), 8, 3, 0),
    "camvid_original": (
        miniatures.camvid_original,
        camvid.build,
        {},
        (3, 2, 2),
        8,
        3,
        0,
    ),
    "sunrgbd": (miniatures.sunrgbd, sunrgbd.build, {}, (3, 0, 2), 36, 0, 0),
    "isic": (miniatures.isic, isic.build, {}, (3, 2, 1), 1, 0, None),
}


@pytest.fixture(params=DATASETS, scope="module")
def case(request, tmp_path_factory):
    make, build, options, *expected = DATASETS[request.param]
    folder = make(tmp_path_factory.mktemp(request.param))
    return build(dir=str(folder), **options), expected


def test_parts_and_records(case):
    dataset, (numbers, *_) = case
    parts = [dataset.partitions.get(p) for p in ("train", "validation", "test")]
    assert tuple(len(part or ()) for part in parts) == numbers
    assert list(dataset.records) == sorted(dataset.records)
    assert set(dataset.records) == {n for part in parts for n in part or ()}
    info = dataset.info
    assert len(info.palette) == len(set(info.palette)) == info.num_classes
    assert len(set(info.class_names)) == info.num_classes
    for name, record in dataset.records.items():
        assert record.id == name and os.path.isfile(record.image)
        assert record.label is None or os.path.isfile(record.label)


def test_masks_pass_the_checks_and_the_pipeline(case):
    """Every labeled image: its pixels as saved, its mask as labels."""
    dataset, (_, inside, outside, ignored_row) = case
    ids = [n for n, record in dataset.records.items() if record.label]
    records = [dataset.records[name] for name in ids]
    sizes, findings = check.check_images(
        [record.image for record in records], max_pixels=10**6
    )
    assert not findings
    counts, findings = check.check_labels(
        [record.image for record in records],
        [record.label for record in records],
        sizes,
        code=dataset.mask_code,
        num_classes=dataset.info.num_classes,
    )
    assert not findings
    assert set(np.flatnonzero(counts.sum(0))) <= {inside, outside, 7}
    pool = examples.pool(dataset, ids)
    batches = pipeline.evaluation_batches(pool, batch=1)
    order, _ = pipeline._runs_of_one_size(sizes, 1)
    for index, (image, label) in zip(order, batches.as_numpy_iterator()):
        name, label = ids[index], label[0]
        disc = miniatures.disc(name, label.shape)
        near = miniatures.picture(name, label.shape).astype(int)
        assert np.abs(near - image[0]).mean() < 20
        expected = np.where(disc > 0, inside, outside)
        if "SegmentationClassAug" in records[index].label:
            # VOC's masks go before those of SBD, which have 7 and no void.
            if name not in miniatures.VOC_TRAIN:
                expected = np.where(disc > 0, 7, 0)
            else:
                expected[0] = 255
        elif ignored_row is not None:
            expected[ignored_row] = 255
        elif "SegmentationClass" in records[index].label:
            expected[0] = 255
        np.testing.assert_array_equal(label, expected)


def test_a_value_that_is_no_class_is_found(case, tmp_path):
    dataset, _ = case
    record = next(r for r in dataset.records.values() if r.label)
    contents = tf.io.encode_png(np.full([4, 4, 1], 99, np.uint8))
    label = decode.decode_label(contents, dataset.mask_code).numpy()
    strange = (label < 0) | (label >= dataset.info.num_classes)
    assert strange.all() and not (label == 255).any()
    size = decode.decode_image(tf.io.read_file(record.image)).shape[:2]
    strange = tmp_path / os.path.basename(record.label)
    mask = np.full([*size, 1], 99, np.uint8)
    strange.write_bytes(tf.io.encode_png(mask).numpy())
    sizes, _ = check.check_images([record.image], max_pixels=10**6)
    _, findings = check.check_labels(
        [record.image],
        [str(strange)],
        sizes,
        code=dataset.mask_code,
        num_classes=dataset.info.num_classes,
    )
    assert len(findings) == 1 and "99" in str(findings[0])


def _touch(folder, names):
    os.makedirs(folder, exist_ok=True)
    for name in names:
        os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY))


def _whole_voc(root):
    train = [f"2008_{i:06d}" for i in range(1464)]
    val = [f"2009_{i:06d}" for i in range(1449)]
    more = [f"2010_{i:06d}" for i in range(10582 - 1464)]
    for name, ids in (("train", train), ("val", val)):
        path = os.path.join(root, "ImageSets", "Segmentation")
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, f"{name}.txt"), "w") as file:
            file.write("\n".join(ids) + "\n")
    _touch(f"{root}/JPEGImages", [f"{n}.jpg" for n in train + val + more])
    _touch(f"{root}/SegmentationClass", [f"{n}.png" for n in train + val])
    _touch(f"{root}/SegmentationClassAug", [f"{n}.png" for n in train + more])


def _whole_cityscapes(root):
    for part, cities in cityscapes.CITIES.items():
        for city, number in cities.items():
            ids = [f"{city}_{i:06d}_000019" for i in range(number)]
            _touch(
                f"{root}/leftImg8bit/{part}/{city}",
                [f"{name}_leftImg8bit.png" for name in ids],
            )
            _touch(
                f"{root}/gtFine/{part}/{city}",
                [f"{name}_gtFine_labelIds.png" for name in ids],
            )


def _whole_camvid(root):
    """The frames of the original, as SegNet's three lists have them."""
    ids = [f"0001TP_{i:06d}" for i in range(6690, 10381, 30)]
    ids += [f"0006R0_f{i:05d}" for i in range(930, 3931, 30)]
    ids += [f"0016E5_{i:05d}" for i in range(390, 2401, 30)]
    ids += [f"0016E5_{i:05d}" for i in range(4350, 7921, 30)]
    ids += [f"0016E5_{i:05d}" for i in range(7959, 8160, 2)]
    ids += [f"0016E5_{i:05d}" for i in range(8190, 8641, 30)]
    ids += [f"Seq05VD_f{i:05d}" for i in range(0, 5101, 30)]
    assert len(ids) == 701
    _touch(f"{root}/701_StillsRaw_full", [f"{name}.png" for name in ids])
    _touch(f"{root}/LabeledApproved_full", [f"{name}_L.png" for name in ids])


def _whole_sunrgbd(root):
    for folder, number, end in (
        ("SUNRGBD-train_images", 5285, "jpg"),
        ("SUNRGBD-test_images", 5050, "jpg"),
        ("sunrgbd_train_test_labels", 10335, "png"),
    ):
        names = [f"img-{i:06d}.{end}" for i in range(1, number + 1)]
        _touch(os.path.join(root, folder), names)


def _whole_isic(root):
    for part, size in (
        ("Training", 2000),
        ("Validation", 150),
        ("Test_v2", 600),
    ):
        ids = [f"ISIC_{i:07d}" for i in range(size)]
        _touch(
            f"{root}/ISIC-2017_{part}_Data",
            [f"{part}{name}.jpg" for name in ids],
        )
        _touch(
            f"{root}/ISIC-2017_{part}_Part1_GroundTruth",
            [f"{part}{name}_segmentation.png" for name in ids],
        )


@pytest.mark.parametrize(
    "make, build, sizes",
    [
        (_whole_voc, voc.build, (10582, 1449, 0)),
        (_whole_cityscapes, cityscapes.build, (2975, 500, 1525)),
        (_whole_camvid, camvid.build, (367, 101, 233)),
        (_whole_sunrgbd, sunrgbd.build, (5285, 0, 5050)),
        (_whole_isic, isic.build, (2000, 150, 600)),
    ],
    ids=["voc", "cityscapes", "camvid", "sunrgbd", "isic"],
)
def test_whole_data_set_is_read_quickly_and_without_a_warning(
    make, build, sizes, caplog
):
    with tempfile.TemporaryDirectory() as root:
        make(root)
        start = time.process_time()
        with caplog.at_level(std_logging.WARNING):
            dataset = build(dir=root)
        assert time.process_time() - start < 2
    parts = [dataset.partitions.get(p) for p in ("train", "validation", "test")]
    assert tuple(len(part or ()) for part in parts) == sizes
    assert caplog.text == ""


@pytest.fixture(scope="module")
def whole_voc():
    with tempfile.TemporaryDirectory() as root:
        _whole_voc(root)
        yield root


@pytest.mark.parametrize(
    "every, count", [(2, 732), (4, 366), (8, 183), (16, 92)]
)
def test_few_labels_of_voc(whole_voc, every, count):
    """Table 5 of CPS: of VOC's own list; the rest has no labels."""
    own = f"{whole_voc}/ImageSets/Segmentation/train.txt"
    config = voc_supervised.get_config(
        f"dir={whole_voc},labeled={own},every={every}"
    )
    dataset = examples.open_dataset(config)
    split = splits.make(
        labeled_ids_available=list(dataset.records),
        all_ids=list(dataset.records),
        partitions=dataset.partitions,
        class_counts=np.ones([len(dataset.records), 21], int),
        **config.split,
    )
    assert len(split.labeled) == count
    assert all(name.startswith("2008") for name in split.labeled)
    assert len(split.unlabeled) == 10582


def test_training_by_command(tmp_path):
    """Cityscapes from its config to a checkpoint: ids, extra images, test."""
    folder = miniatures.cityscapes(tmp_path / "data", extra=True)
    config = "configs/cityscapes_supervised.py"
    options = f"dir={folder},every=1,extra=true,crop=16,network=fcn,steps=2"
    workdir = tmp_path / "run"
    done = miniature.run(
        "train",
        f"--config={config}:{options}",
        f"--workdir={workdir}",
        "--config.network.width=8",
        "--config.train.labeled_batch=2",
        "--config.train.unlabeled_batch=2",
        "--config.train.num_pictures=0",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    warning = "cityscapes differs from what was published: train has 4 of 2,975"
    assert done.stderr.count(warning) == 1
    with open(workdir / "summary.json") as file:
        assert json.load(file)["steps"] == 2
    with open(workdir / "split.json") as file:
        split = json.load(file)
    assert len(split["labeled"]) == 4 and len(split["validation"]) == 2
    assert "augsburg_000001_000019" in split["unlabeled"]
    assert len(split["test"]) == 2
