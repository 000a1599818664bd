# SPDX-License-Identifier: Apache-2.0
import collections
import dataclasses
import hashlib
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfseg.data import augmentation, order, pipeline, record_writer, records

AUGMENTATION = augmentation.Augmentation(
    crop=(4, 4),
    scale=(1.0, 1.0),
    flip_rate=0.0,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_rate=0.0,
    gray_rate=0.0,
    blur_rate=0.0,
    blur_sigma=(0.1, 2.0),
    pad_color=(124, 116, 104),
)
NUMBER = 60


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Sixty images; image i is filled with the value i; odd ones have masks."""
    folder = tmp_path_factory.mktemp("source")
    images, labels, counts = [], [], []
    for i in range(NUMBER):
        images.append(str(folder / f"{i:02}.png"))
        Image.new("RGB", (4, 4 + i % 3), (i, i, i)).save(images[-1])
        labels.append(str(folder / f"{i:02}_label.png") if i % 2 else None)
        if i % 2:
            Image.new("L", (4, 4 + i % 3), i % 5).save(labels[-1])
        counts.append(np.bincount([i % 5], minlength=5) * (i % 2))
    return record_writer.Source(
        ids=tuple(f"scene/{i:02}" for i in range(NUMBER)),
        images=tuple(images),
        labels=tuple(labels),
        sizes=np.array([(4 + i % 3, 4) for i in range(NUMBER)], np.int32),
        class_counts=np.array(counts),
    )


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("records"))
    record_writer.write(folder, source, shard_bytes=2000)
    return folder


@pytest.fixture(scope="module")
def index(folder):
    return record_writer.load(folder)


def windowed(index, rows, **options):
    """A pool that is drawn by windows of about seven examples."""
    options = {"labeled": False, **options}
    length = int(index.length.mean())
    return records.Pool(
        index, rows, in_memory_bytes=0, window_bytes=7 * length, **options
    )


def stream(pool, *, start=0, stop=12, batch=4, seed=(5, 0), **part):
    return pipeline.stream(
        pool,
        view="plain",
        augmentation=AUGMENTATION,
        batch=batch,
        seed=seed,
        start=start,
        stop=stop,
        part=order.Slice(**part),
    )


def numbers(batches):
    return np.array([b["image"][:, 0, 0, 0].numpy() for b in batches])


def drawn(pool, *, start=0, stop=12, batch=4, seed=(5, 0), **part):
    """`numbers` of a stream, without its view: to trace that takes long."""
    part = order.Slice(**part)
    examples = pool.draw(
        batch=batch, seed=seed, start=start, stop=stop, part=part
    ).as_numpy_iterator()
    images = [Image.open(io.BytesIO(image)) for _, image, _ in examples]
    values = [image.getpixel((0, 0))[0] for image in images]
    return np.reshape(values, [stop - start, batch // part.num_workers])


def test_files_are_ordinary_records_with_the_bytes_of_the_source(source, index):
    assert len(index.shards) > 3
    found = {}
    for example in tf.data.TFRecordDataset(list(index.shards)):
        features = tf.train.Example.FromString(example.numpy()).features.feature
        values = {k: v.bytes_list.value[0] for k, v in features.items()}
        found[values["id"].decode()] = values
    assert sorted(found) == list(source.ids) == list(index.ids)
    for name, image, label in zip(source.ids, source.images, source.labels):
        with open(image, "rb") as file:
            contents = file.read()
        mask = open(label, "rb").read() if label else b""
        assert found[name]["image"] == contents
        assert found[name]["label"] == mask
        digest = hashlib.sha256(contents + mask).digest()
        assert found[name]["sha256"] == digest


def test_index_knows_sizes_and_classes(source, index):
    np.testing.assert_array_equal(index.sizes, source.sizes)
    np.testing.assert_array_equal(index.labeled, np.arange(NUMBER) % 2 == 1)
    np.testing.assert_array_equal(index.class_counts, source.class_counts[1::2])
    assert index.rows["scene/07"] == 7


def test_interrupted_writing_goes_on_and_gives_the_same_bytes(
    source, folder, tmp_path, monkeypatch
):
    serialize, done = record_writer._serialize, []

    def fail_later(*arguments):
        done.append(1)
        if len(done) > 40:
            raise OSError("the disk is gone")
        return serialize(*arguments)

    monkeypatch.setattr(record_writer, "_serialize", fail_later)
    monkeypatch.setattr(record_writer, "_READ_AHEAD", 8)
    with pytest.raises(OSError, match="disk"):
        record_writer.write(str(tmp_path), source, shard_bytes=2000)
    with pytest.raises(ValueError, match="no complete records"):
        record_writer.load(str(tmp_path))
    first = len(done)
    monkeypatch.setattr(record_writer, "_serialize", serialize)
    stamps = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.tfrecord")}
    assert stamps
    changed = dataclasses.replace(source, sizes=source.sizes + 1)
    with pytest.raises(ValueError, match="masks or classes changed: scene/"):
        record_writer.write(str(tmp_path), changed, shard_bytes=2000)
    record_writer.write(str(tmp_path), source, shard_bytes=2000)
    for name, stamp in stamps.items():
        assert (tmp_path / name).stat().st_mtime_ns == stamp
    written = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with_no_break = tf.io.gfile.listdir(folder)
    assert sorted(written) == sorted(with_no_break) and first > 0
    for name, contents in written.items():
        with open(f"{folder}/{name}", "rb") as file:
            assert file.read() == contents, name


def test_other_examples_are_refused(source, folder):
    fewer = record_writer.Source(
        source.ids[:9],
        source.images[:9],
        source.labels[:9],
        source.sizes[:9],
        source.class_counts[:9],
    )
    with pytest.raises(ValueError, match="60 are there, 9 of them expected"):
        record_writer.write(folder, fewer, shard_bytes=2000)


@pytest.mark.parametrize("field", ["sizes", "labels", "class_counts"])
def test_an_example_that_has_changed_is_refused(source, folder, field):
    values = np.array(getattr(source, field))
    values[7] = None if field == "labels" else np.roll(values[7], 1)
    changed = dataclasses.replace(source, **{field: values})
    with pytest.raises(ValueError, match="1 of 60 .* changed: scene/07. Fix"):
        record_writer.write(folder, changed, shard_bytes=2000)


def test_another_number_of_classes_is_refused(source, folder):
    counts = source.class_counts[:, :4]
    fewer = dataclasses.replace(source, class_counts=counts)
    with pytest.raises(ValueError, match="60 of 60 .* or classes changed"):
        record_writer.write(folder, fewer, shard_bytes=2000)


def test_a_truncated_or_missing_shard_is_named(source, tmp_path):
    record_writer.write(str(tmp_path), source, shard_bytes=2000)
    shard = tmp_path / "examples-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ValueError, match="00001.tfrecord: has .* the index"):
        record_writer.load(str(tmp_path))
    shard.unlink()
    with pytest.raises(ValueError, match="00001.tfrecord: is missing, the in"):
        record_writer.load(str(tmp_path))


def test_fetch_keeps_the_order(index):
    rows = np.random.RandomState(0).permutation(NUMBER)
    pool = records.Pool(index, rows, labeled=True)
    wanted = tf.data.Dataset.from_tensor_slices(np.arange(NUMBER))
    images = [
        int(tf.io.decode_png(image)[0, 0, 0]) for image, _ in pool.fetch(wanted)
    ]
    np.testing.assert_array_equal(images, rows)
    np.testing.assert_array_equal(pool.sizes(), index.sizes[rows])


def test_a_small_pool_is_drawn_as_files_are(source, index):
    rows = np.arange(1, NUMBER, 2)
    files = pipeline.Pool(
        tuple(source.images[i] for i in rows),
        tuple(source.labels[i] for i in rows),
    )
    pool = records.Pool(index, rows, labeled=True)
    for one, other in zip(stream(files, stop=20), stream(pool, stop=20)):
        for key in ("image", "label", "valid"):
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("batch", [4, 7])
def test_windows_give_every_image_at_most_once_an_epoch(index, batch):
    pool = windowed(index, np.arange(NUMBER))
    steps = NUMBER // batch
    found = drawn(pool, stop=6 * steps, batch=batch)
    epochs = found.reshape(6, steps * batch)
    for epoch in epochs:
        assert len(set(epoch)) == steps * batch
    assert len({tuple(epoch) for epoch in epochs}) == 6
    counts = collections.Counter(found.ravel())
    assert set(counts) == set(range(NUMBER)) and min(counts.values()) >= 4


def test_windows_resume_at_any_step(index):
    pool = windowed(index, np.arange(NUMBER))
    whole = drawn(pool, stop=40)
    for start in (1, 13, 15, 16, 39):
        resumed = drawn(pool, start=start, stop=40)
        np.testing.assert_array_equal(resumed, whole[start:])


def test_workers_cut_the_same_global_batch_from_windows(index):
    pool = windowed(index, np.arange(NUMBER))
    whole = drawn(pool, stop=20)
    halves = [
        drawn(pool, stop=20, worker=worker, num_workers=2)
        for worker in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(halves, 1), whole)


def test_seeds_give_other_windows_and_labels_stay_with_images(index):
    rows = np.arange(1, NUMBER, 2)
    pool = windowed(index, rows, labeled=True)
    one = drawn(pool, stop=7)
    other = drawn(pool, stop=7, seed=(6, 0))
    assert (one != other).any() and set(one.ravel()) <= set(rows)
    batches = list(stream(pool, stop=20))
    np.testing.assert_array_equal(numbers(batches), drawn(pool, stop=20))
    for batch in batches:
        np.testing.assert_array_equal(
            batch["label"], batch["image"][..., 0].numpy() % 5
        )


def test_windows_mix_images_that_do_not_stand_together(index):
    """The mean distance in the store of neighbors in the stream."""
    pool = windowed(index, np.arange(NUMBER))
    place = np.argsort(pool._stored.numpy())
    found = drawn(pool, stop=30).ravel()
    distance = np.abs(np.diff(place[found]))
    assert (distance == 1).mean() < 0.4


def test_evaluation_reads_records(index):
    pool = records.Pool(index, np.arange(1, NUMBER, 2), labeled=True)
    seen = []
    for image, label in pipeline.evaluation_batches(pool, batch=4):
        np.testing.assert_array_equal(image[..., 0] % 5, label)
        seen += image[:, 0, 0, 0].numpy().tolist()
    assert sorted(seen) == list(range(1, NUMBER, 2))


def test_a_damaged_example_is_named(source, tmp_path):
    record_writer.write(str(tmp_path), source, shard_bytes=2000)
    index = record_writer.load(str(tmp_path))
    shard = tmp_path / f"examples-{index.shard[7]:05}.tfrecord"
    contents = bytearray(shard.read_bytes())
    contents[index.offset[7] + index.length[7] // 2] ^= 1
    shard.write_bytes(contents)
    pool = records.Pool(index, np.arange(NUMBER), labeled=False)
    findings = pool.damaged()
    assert [finding.value for finding in findings] == ["scene/07"]
    assert str(findings[0]).startswith(str(shard))
