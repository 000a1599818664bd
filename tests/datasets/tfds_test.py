# SPDX-License-Identifier: Apache-2.0
"""Exports of a builder that is made here, in the format of the library."""

import io
import json
import os

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from tests import miniature
from tests.datasets import miniatures
from tfseg import examples
from tfseg.data import pipeline
from tfseg.datasets import tfds

_SIZES = {"train": 5, "validation": 2, "test": 2, "unlabelled": 1}


class TinyPets(tensorflow_datasets.core.GeneratorBasedBuilder):
    """Images and trimaps: values 1, 2 and 255."""

    VERSION = tensorflow_datasets.core.Version("1.2.3")
    MASK = tensorflow_datasets.features.Image(shape=(None, None, 1))

    def _info(self):
        features = {
            "image": tensorflow_datasets.features.Image(encoding_format="jpeg"),
            "segmentation_mask": self.MASK,
            "file_name": tensorflow_datasets.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tensorflow_datasets.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in _SIZES}

    def _generate_examples(self, split):
        for i in range(_SIZES[split]):
            name = f"{split}{i}"
            file = io.BytesIO()
            Image.fromarray(miniatures.picture(name)).save(file, "JPEG")
            mask = miniatures.disc(name) + np.uint8(1)
            mask[0] = 255
            yield i, {
                "image": io.BytesIO(file.getvalue()),
                "segmentation_mask": mask[..., None],
                "file_name": name,
            }


class NamedPets(TinyPets):
    """Its mask feature names the classes."""

    MASK = tensorflow_datasets.features.LabeledImage(
        labels=["none", "pet", "edge"], shape=(None, None, 1)
    )


class BoxPets(TinyPets):
    """Without a mask per pixel."""

    MASK = tensorflow_datasets.features.Text()

    def _generate_examples(self, split):
        for i, example in super()._generate_examples(split):
            yield i, {**example, "segmentation_mask": "none"}


class RgbPets(TinyPets):
    """Masks in colors."""

    MASK = tensorflow_datasets.features.Image(shape=(None, None, 3))

    def _generate_examples(self, split):
        for i, example in super()._generate_examples(split):
            mask = example["segmentation_mask"].repeat(3, -1)
            yield i, {**example, "segmentation_mask": mask}


@pytest.fixture(name="source", scope="module")
def _source(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("tensorflow_datasets"))
    for builder in (TinyPets, NamedPets, RgbPets, BoxPets):
        builder(data_dir=path).download_and_prepare()
    return path


def _files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_export_is_a_folder_data_set(source, tmp_path):
    out = tmp_path / "pets"
    tfds.prepare(dir=str(out), builder="tiny_pets", source=source)
    dataset = tfds.build(dir=str(out), builder="tiny_pets")
    assert dataset == tfds.build(dir=str(out))
    assert dataset.info.name == "tfds:tiny_pets"
    assert dataset.info.class_names == ("class_1", "class_2")
    assert dataset.partitions == {
        "train": tuple(f"train_{i:06d}" for i in range(5)),
        "validation": ("validation_000000", "validation_000001"),
        "test": ("test_000000", "test_000001"),
    }
    assert len(dataset.records) == 10
    with open(out / "prepared.json") as file:
        settings = json.load(file)["settings"]
    assert settings == {"builder": "tiny_pets", "version": "1.2.3"}


def test_bytes_and_labels_are_those_of_the_builder(source, tmp_path):
    tfds.prepare(dir=str(tmp_path / "p"), builder="tiny_pets", source=source)
    dataset = tfds.build(dir=str(tmp_path / "p"))
    builder = tensorflow_datasets.builder("tiny_pets", data_dir=source)
    expected = {
        example["image"].tobytes(): example["segmentation_mask"][..., 0]
        for example in tensorflow_datasets.as_numpy(
            builder.as_dataset(split="train")
        )
    }
    pool = examples.pool(dataset, dataset.partitions["train"])
    batches = pipeline.evaluation_batches(pool, batch=1)
    found = {
        image[0].tobytes(): label[0]
        for image, label in batches.as_numpy_iterator()
    }
    assert found.keys() == expected.keys()
    for image, values in expected.items():
        labels = np.where(values == 255, 255, values.astype(int) - 1)
        np.testing.assert_array_equal(found[image], labels)


def test_interrupted_export_goes_on_with_the_same_bytes(
    source, tmp_path, monkeypatch
):
    out = tmp_path / "pets"
    options = {"dir": str(out), "builder": "tiny_pets", "source": source}
    tfds.prepare(**options)
    before = _files(out)
    tfds.prepare(**options)
    assert _files(out) == before
    for path in out.rglob("*_000001*"):
        path.unlink()
    write, written = tfds._write, []

    def interrupt(folders, name, *contents):
        if written:
            raise KeyboardInterrupt
        written.append(name)
        write(folders, name, *contents)

    monkeypatch.setattr(tfds, "_write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tfds.prepare(**options)
    with pytest.raises(ValueError, match="interrupted.*=tfds:NAME --dir="):
        tfds.build(dir=str(out))
    monkeypatch.setattr(
        tfds, "_write", lambda *args: written.append(args[1]) or write(*args)
    )
    tfds.prepare(**options)
    assert _files(out) == before
    assert sorted(written) == [
        "test_000001",
        "train_000001",
        "validation_000001",
    ]


def test_named_classes_keep_their_values(source, tmp_path):
    tfds.prepare(dir=str(tmp_path / "p"), builder="named_pets", source=source)
    dataset = tfds.build(dir=str(tmp_path / "p"))
    assert dataset.info.class_names == ("none", "pet", "edge")


def test_what_is_wrong_is_named(source, tmp_path):
    out = str(tmp_path / "out")
    for builder, message in [
        ("", "names no builder. Fix: --dataset=tfds:NAME"),
        ("no_such_pets", "has no builder 'no_such_pets' in "),
        ("rgb_pets", r"_mask is Image\(shape=\(None, None, 3\), dtype=uint8\)"),
        ("box_pets", "segmentation_mask is Text"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            tfds.prepare(dir=out, builder=builder, source=source)
        assert "Fix: " in str(error.value)
    empty = str(tmp_path / "empty")
    with pytest.raises(ValueError, match="is not prepared there. Fix: tfds bu"):
        tfds.prepare(dir=out, builder="tiny_pets", source=empty)
    assert not os.path.exists(out)
    for path in ("", str(tmp_path), source):
        with pytest.raises(ValueError, match="does not hold an export.*tfds:"):
            tfds.build(dir=path)
    tfds.prepare(dir=out, builder="tiny_pets", source=source)
    with pytest.raises(ValueError, match="holds tiny_pets, .* is dogs"):
        tfds.build(dir=out, builder="dogs")
    with pytest.raises(ValueError, match="asked for .*named_pets"):
        tfds.prepare(dir=out, builder="named_pets", source=source)


def test_by_command(source, tmp_path):
    """Another process, which does not have the code of the builder."""
    done = miniature.run(
        "prepare",
        "--dataset=tfds:tiny_pets",
        f"--source={source}",
        f"--dir={tmp_path / 'pets'}",
    )
    assert done.returncode == 0, done.stderr
    assert "tfds:tiny_pets is ready in" in done.stderr
    assert len(tfds.build(dir=str(tmp_path / "pets")).records) == 10
