# SPDX-License-Identifier: Apache-2.0
import os
import time

import numpy as np
import pytest
import tensorflow as tf

from configs import consistency, weak_labels
from tfseg import lookup
from tfseg.benchmarks import base, pipeline, step
from tfseg.data import decode

FCN = {"name": "fcn", "width": 4}


@pytest.fixture(scope="module", autouse=True)
def small():
    """Few and small images, which the suites of a process share."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"IMAGES": 6, "HEIGHT": 48, "WIDTH": 64}.items():
            patch.setattr(pipeline, name, value)
        patch.setattr(base, "fresh", lambda function, *args: function(*args))
        yield


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("pipeline"))
    pipeline.write(folder)
    return folder


@pytest.mark.parametrize("labeled", [True, False])
def test_files_and_records_are_the_same_images(folder, labeled):
    rows = tf.data.Dataset.range(pipeline.IMAGES)
    files, records = (
        list(pipeline.pool(folder, source, labeled).fetch(rows))
        for source in pipeline.SOURCES
    )
    assert files and files[0][0] != files[1][0]
    for (image, label), (other_image, other_label) in zip(files, records):
        assert image == other_image and bool(label.numpy()) == labeled
        # Only a labeled pool of records promises the label.
        assert label == other_label or not labeled


def test_images_are_like_photographs(folder):
    contents = tf.io.read_file(os.path.join(folder, "0.jpg"))
    image = decode.decode_image(contents).numpy().astype(float)
    assert image.shape == (48, 64, 3)
    # Neighbors are alike, but not the same.
    near = np.abs(np.diff(image, axis=1)).mean()
    assert 1 < near < image.std()
    pool = pipeline.pool(folder, "files", labeled=True)
    label = decode.decode_label(tf.io.read_file(pool.labels[0]), pool.code)
    assert set(np.unique(label)) <= set(range(base.NUM_CLASSES))


def test_bare_decoding_is_that_of_the_same_files(folder):
    images = list(pipeline.bare_decoding(folder).take(pipeline.IMAGES + 1))
    contents = tf.io.read_file(os.path.join(folder, "1.jpg"))
    np.testing.assert_array_equal(images[1], decode.decode_image(contents))
    np.testing.assert_array_equal(images[-1], images[0])


def test_a_taker_goes_on_where_it_stopped_and_reads_nothing_ahead():
    seen = []

    def numbers():
        for number in range(100):
            seen.append(number)
            yield number

    dataset = tf.data.Dataset.from_generator(
        numbers, output_signature=tf.TensorSpec([], tf.int64)
    )
    take = pipeline.taker(pipeline.unbuffered(dataset))
    # The next one is not asked for before it is wanted.
    assert take(2) == 2 and seen == [0, 1]
    time.sleep(0.05)
    assert take(3) == 3 and seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("view", pipeline.VIEWS)
def test_every_view_has_a_stream(folder, view):
    settings = pipeline.augmentation_of(view, 21)
    assert settings.crop == ((16, 16) if view == "overlap_pair" else (21, 21))
    source = pipeline.pool(folder, "records", labeled=view == "plain")
    batch = next(iter(pipeline.stream(source, view, settings, 2)))
    assert ("label" in batch) == (view == "plain")
    for values in batch.values():
        assert values.shape[0] == 2


def test_filled_crops_are_of_the_view(folder):
    image, label = next(iter(pipeline.filled(folder, "plain", (8, 9), 2)))
    assert image.shape == (2, 8, 9, 3) and image.dtype == tf.float32
    assert label.shape == (2, 8, 9) and label.dtype == tf.int32
    crops = next(iter(pipeline.filled(folder, "affine_pair", (8, 9), 2)))
    assert [crop.shape for crop in crops] == 2 * [(2, 8, 9, 3)]


def test_rest_is_all_that_was_made_ahead():
    made = []

    def make(number):
        made.append(number)
        return number

    dataset = tf.data.Dataset.range(1000).map(
        lambda number: tf.numpy_function(make, [number], tf.int64),
        tf.data.AUTOTUNE,
    )
    take = pipeline.taker(pipeline.unbuffered(dataset.batch(4)))
    take(3)
    time.sleep(0.2)
    assert len(made) - 12 <= 4 * pipeline.rest_batches(4)


def test_a_wait_is_a_part_of_its_step():
    def batches():
        for _ in range(4):
            time.sleep(0.02)
            yield tf.constant(1.0)

    waits, steps = pipeline.loop(batches(), lambda batch: batch, 2)
    assert len(waits) == len(steps) == 2
    for wait, whole in zip(waits, steps):
        assert 0.02 <= wait <= whole


def test_a_step_trains_on_the_batch_it_is_given(folder):
    method = step.build_method(FCN, consistency.get("cutmix"))
    streams = pipeline.streams_of(
        method, folder, 16, {"labeled": 1, "unlabeled": 2}
    )
    train = step.Step(method)
    batch = next(iter(tf.data.Dataset.zip(streams)))
    assert batch["labeled"]["label"].shape == (1, 16, 16)
    assert batch["unlabeled"]["strong"].shape == (2, 16, 16, 3)
    before = method.deployed.trainable_variables[0].numpy()
    assert np.isfinite(train(batch)) and int(method.step.numpy()) == 1
    # The deployed network is a teacher, which its callback moves.
    assert np.any(before != method.deployed.trainable_variables[0].numpy())


def test_methods_that_need_more_are_refused(folder):
    method = step.build_method(FCN, weak_labels.get("image_classifier"))
    with pytest.raises(ValueError, match="must learn from masks.*Classifier"):
        pipeline.streams_of(method, folder, 16, {"labeled": 1, "unlabeled": 1})


def test_records(monkeypatch):
    monkeypatch.setattr(pipeline, "VIEWS", {"plain": {}})
    options = {"supervised": {"name": "supervised"}}
    files, records, filled, run = pipeline.run(
        networks={"small": FCN}, methods=options, size=16, batch=2, repeats=2
    )
    names = ("files", "records", "only filled")
    for record, name in zip((files, records, filled), names):
        assert record["case"] == f"plain, {name}" and record["crop"] == 16
        whole = record["images_per_second"] * record["seconds"]
        assert whole == pytest.approx(1)
        assert record["ratio"] > 0 and record["bare_seconds"] > 0
    assert run["case"] == "waiting, supervised" and run["network"] == "small"
    # One labeled image a step, as there is no unlabeled stream.
    whole = run["images_per_second"] * run["seconds"]
    assert whole == pytest.approx(1)
    assert 0 < run["waiting_share"] < 1 and run["ratio"] > 0
    for record in (files, records, filled, run):
        assert set(pipeline.COLUMNS) < set(record)
    assert lookup.module("benchmarks", "pipeline") is pipeline
