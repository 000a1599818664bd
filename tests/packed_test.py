# SPDX-License-Identifier: Apache-2.0
import glob
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests import miniature
from tfseg import domains, examples, packed, train
from tfseg.data import check, order, pipeline, records
from tfseg.methods import mean_teacher


def pack(config, folder, **options):
    dataset = examples.open_dataset(config)
    files = examples.check_files(config, dataset, check.raise_on)
    packed.write(config, dataset, files, str(folder), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = miniature.make_folder(
        tmp_path_factory.mktemp("data") / "mine", labeled=9, unlabeled=12
    )
    (folder / "splits").mkdir()
    (folder / "splits" / "val.txt").write_text("im07\nim08\n")
    return folder


@pytest.fixture(scope="module")
def config(folder, tmp_path_factory):
    """That of a run on the records of the folder."""
    config = miniature.config(folder)
    records_folder = tmp_path_factory.mktemp("records") / "mine"
    pack(config, records_folder)
    config.data.records = str(records_folder)
    return config


def test_the_data_set_is_the_same_but_for_its_files(folder, config):
    one = examples.open_dataset(miniature.config(folder))
    other = examples.open_dataset(config)
    assert other.info == one.info and other.mask_code == one.mask_code
    assert other.partitions == one.partitions
    assert list(other.records) == list(one.records)
    for name, record in one.records.items():
        assert bool(other.records[name].label) == bool(record.label)
    split = examples.checked_split(miniature.config(folder), one)
    assert examples.checked_split(config, other) == split


def _batches(config, start=0):
    """Those of CutMix, whose run costs twice that of `_supervised`."""
    (domain,) = domains.open_all(config)
    streams = domain.batches(
        mean_teacher.build, start=start, part=order.Slice(), folder=""
    )
    assert set(streams) == {"labeled", "unlabeled"}
    return list(pipeline.together(streams).as_numpy_iterator())


def _check_same(batches, others):
    assert len(batches) == len(others) > 0
    for one, other in zip(batches, others):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def _supervised(folder, records_folder=""):
    config = miniature.config(folder, "supervised", train__steps=3)
    config.data.records = records_folder
    return config


def test_a_run_on_records_is_the_run_on_files(folder, config, tmp_path):
    """Bit by bit: a pool that fits into memory is drawn as files are."""
    _check_same(_batches(miniature.config(folder)), _batches(config))
    one = train.train(_supervised(folder), str(tmp_path / "files"))
    other = train.train(
        _supervised(folder, config.data.records), str(tmp_path / "records")
    )
    assert one["sha256"] == other["sha256"]
    assert one["best_miou"] == other["best_miou"]


def test_a_run_by_windows_resumes_bit_by_bit(
    folder, config, tmp_path, monkeypatch
):
    monkeypatch.setattr(records, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(records, "WINDOW_BYTES", 4000)
    _check_same(_batches(config)[4:], _batches(config, start=4))
    whole, resumed = str(tmp_path / "whole"), str(tmp_path / "resumed")
    config = _supervised(folder, config.data.records)
    config.train.checkpoint_every = 2
    first = train.train(config, whole)
    shutil.copytree(whole, resumed)
    for path in glob.glob(f"{resumed}/checkpoints/last/ckpt-3.*"):
        os.remove(path)
    again = train.train(config, resumed)
    assert "resuming from step 2" in open(f"{resumed}/run.log").read()
    assert again["sha256"] == first["sha256"]


def test_records_of_another_data_set_are_refused(config):
    other = config.copy_and_resolve_references()
    other.dataset.name = "digits"
    with pytest.raises(ValueError, match="(?s)another data set.*folder -> dig"):
        examples.open_dataset(other)
    other.data.records = os.path.dirname(config.data.records)
    with pytest.raises(ValueError, match="no complete records.*--records"):
        examples.open_dataset(other)


def test_records_that_are_not_described_are_refused(config, tmp_path):
    other = config.copy_and_resolve_references()
    other.data.records = str(tmp_path / "records")
    shutil.copytree(config.data.records, other.data.records)
    os.remove(os.path.join(other.data.records, "dataset.json"))
    with pytest.raises(ValueError, match="dataset.json: no such.*--records"):
        examples.open_dataset(other)


def test_masks_that_changed_since_are_refused(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine", unlabeled=2)
    records_folder = tmp_path / "records"
    for _ in range(2):
        pack(miniature.config(folder), records_folder)
    written = {p: p.read_bytes() for p in records_folder.iterdir()}
    masks = folder / "labels"
    shutil.copy(masks / "im00.png", masks / "im03.png")
    shutil.copy(masks / "im00.png", masks / "im07.png")
    with pytest.raises(ValueError, match="what 2 of 8 .*: im03, im07. Fix"):
        pack(miniature.config(folder), records_folder)
    assert written == {p: p.read_bytes() for p in records_folder.iterdir()}


def test_a_faulty_file_is_named_before_anything_is_written(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine")
    (folder / "images" / "im00.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="im00.png: is not an image"):
        pack(miniature.config(folder), tmp_path / "records")
    assert not (tmp_path / "records").exists()
