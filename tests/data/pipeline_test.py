# SPDX-License-Identifier: Apache-2.0
import collections
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfseg.data import augmentation, decode, order, pipeline

AUGMENTATION = augmentation.Augmentation(
    crop=(8, 8),
    scale=(1.0, 1.0),
    flip_rate=0.0,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_rate=0.5,
    gray_rate=0.0,
    blur_rate=0.0,
    blur_sigma=(0.1, 2.0),
    pad_color=(124, 116, 104),
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Eleven PNG images; image i is filled with the value i."""
    folder = tmp_path_factory.mktemp("pool")
    images, labels = [], []
    for i in range(11):
        images.append(str(folder / f"{i}.png"))
        labels.append(str(folder / f"{i}_label.png"))
        Image.new("RGB", (8, 8), (i, i, i)).save(images[-1])
        Image.new("L", (8, 8), i % 3).save(labels[-1])
    return pipeline.Pool(tuple(images), tuple(labels))


def _stream(pool, *, view="plain", start=0, stop=12, batch=4, **options):
    part = order.Slice(**options)
    return pipeline.stream(
        pool,
        view=view,
        augmentation=AUGMENTATION,
        batch=batch,
        seed=(5, 0),
        start=start,
        stop=stop,
        part=part,
    )


def _order(batches, key="image"):
    """Numbers of the images, one row a batch."""
    return np.array([batch[key][:, 0, 0, 0].numpy() for batch in batches])


def _drawn(pool, *, stop=12, batch=4, seed=(5, 0)):
    """`_order` of a stream, without its view: to trace that takes long."""
    drawn = pool.draw(
        batch=batch, seed=seed, start=0, stop=stop, part=order.Slice()
    ).as_numpy_iterator()
    numbers = [
        Image.open(io.BytesIO(x)).getpixel((0, 0))[0] for _, x, _ in drawn
    ]
    return np.reshape(numbers, [stop, batch])


def test_batch_holds_image_label_and_validity(pool):
    batches = _stream(pool)
    np.testing.assert_array_equal(_order(batches), _drawn(pool))
    batch = next(iter(batches))
    assert batch["image"].shape == (4, 8, 8, 3)
    assert batch["image"].dtype == tf.float32
    assert batch["label"].dtype == tf.int32
    assert batch["valid"].dtype == tf.bool
    np.testing.assert_array_equal(
        batch["label"], batch["image"][..., 0].numpy() % 3
    )
    spec = batches.element_spec["image"]
    assert spec.shape == (4, 8, 8, 3)


def test_an_epoch_has_no_image_twice_and_epochs_differ(pool):
    numbers = _drawn(pool, stop=40)
    epochs = numbers.reshape(20, 8)
    for epoch in epochs:
        assert len(set(epoch)) == 8
    assert len({tuple(epoch) for epoch in epochs}) == 20
    # What one epoch leaves out comes in others: all images, about equally.
    counts = collections.Counter(numbers.ravel())
    assert set(counts) == set(range(11)) and min(counts.values()) >= 6


def test_stream_resumes_with_the_same_batches(pool):
    whole = list(_stream(pool, view="weak_strong", stop=9))
    resumed = list(_stream(pool, view="weak_strong", start=4, stop=9))
    assert len(resumed) == 5
    for one, other in zip(whole[4:], resumed):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_workers_and_replicas_cut_the_same_global_batch(pool):
    whole = _drawn(pool)
    replicas = _order(_stream(pool, replicas=2))
    np.testing.assert_array_equal(replicas.reshape(12, 4), whole)
    halves = [
        _order(_stream(pool, worker=worker, num_workers=2))
        for worker in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(halves, 1), whole)


def test_partners_are_never_the_same_image(pool):
    for size in (2, 3, 5, 11):
        part = pipeline.Pool(pool.images[:size])
        for batch in (2, 4, 8):
            numbers = _drawn(part, batch=batch, stop=30)
            assert (numbers[:, 0::2] != numbers[:, 1::2]).all(), (size, batch)


def test_pool_smaller_than_the_batch_repeats(pool):
    numbers = _drawn(pipeline.Pool(pool.images[:3]), batch=8, stop=5)
    for batch in numbers:
        counts = collections.Counter(batch)
        assert sorted(counts.values()) == [2, 3, 3]
    one = _drawn(pipeline.Pool(pool.images[:1]), batch=2, stop=2)
    np.testing.assert_array_equal(one, 0)


def test_streams_and_seeds_are_independent(pool):
    def drawn(seed):
        return _drawn(pool, stop=6, seed=seed).tolist()

    assert drawn((5, 0)) == drawn((5, 0))
    assert drawn((5, 0)) != drawn((5, 1)) != drawn((6, 0))


def test_weak_and_strong_share_geometry(pool):
    different = 0
    unlabeled = pipeline.Pool(pool.images)
    for batch in _stream(unlabeled, view="weak_strong", stop=10):
        assert set(batch) == {"weak", "strong", "valid"}
        same = np.isclose(batch["weak"], batch["strong"], atol=1e-3)
        different += (~same.all((1, 2, 3))).sum()
    # 40 draws at rate 0.5, less those black images that no factor changes.
    assert 5 < different < 35


def test_orders_of_epochs_do_not_come_again():
    size, batch = 60, 8

    @tf.function
    def rows(epoch):
        return tf.map_fn(
            lambda i: order.shuffled(epoch * 56 + i, size, batch, (0, 0)),
            tf.range(56, dtype=tf.int64),
        )

    orders = {
        tuple(rows(tf.constant(epoch, tf.int64)).numpy())
        for epoch in range(300)
    }
    assert len(orders) > 295


def test_evaluation_holds_few_images_of_many_sizes(tmp_path, monkeypatch):
    images, labels, decoded = [], [], []
    for i in range(60):
        images.append(str(tmp_path / f"{i}.png"))
        labels.append(str(tmp_path / f"{i}_label.png"))
        Image.new("RGB", (8, 8 + i)).save(images[-1])
        Image.new("L", (8, 8 + i)).save(labels[-1])
    original = decode.decode_image

    def counted(contents):
        def note(value):
            decoded.append(1)
            return value

        contents = tf.numpy_function(note, [contents], tf.string)
        return original(tf.ensure_shape(contents, []))

    monkeypatch.setattr(decode, "decode_image", counted)
    pool = pipeline.Pool(tuple(images), tuple(labels))
    batches = pipeline.evaluation_batches(pool, batch=4)
    next(iter(batches))
    assert len(decoded) < 30
    assert len(list(batches)) == 60


def test_evaluation_groups_sizes_and_loses_none(tmp_path):
    sizes = [(8, 8), (8, 6), (8, 8), (5, 7), (8, 8), (8, 6)]
    images, labels = [], []
    for i, (height, width) in enumerate(sizes):
        images.append(str(tmp_path / f"{i}.png"))
        labels.append(str(tmp_path / f"{i}_label.png"))
        Image.new("RGB", (width, height), (i, 0, 0)).save(images[-1])
        Image.new("L", (width, height), i).save(labels[-1])
    pool = pipeline.Pool(tuple(images), tuple(labels))
    seen = []
    for image, label in pipeline.evaluation_batches(pool, batch=2):
        assert image.dtype == tf.uint8 and label.dtype == tf.int32
        assert image.shape[:3] == label.shape and image.shape[0] <= 2
        np.testing.assert_array_equal(image[..., 0], label)
        seen += image[:, 0, 0, 0].numpy().tolist()
    assert sorted(seen) == list(range(6))
