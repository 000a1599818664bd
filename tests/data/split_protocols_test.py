# SPDX-License-Identifier: Apache-2.0
"""Splits as papers make them: by rule, or from the lists that they publish."""

import pickle

import numpy as np
import pytest
from absl import logging

from tfseg import config
from tfseg.data import splits

IDS = [f"id_{i:03d}" for i in range(64)]
# Not sorted, as the train list of CPS for Cityscapes.
TRAIN = [IDS[i] for i in np.random.default_rng(0).permutation(40)]
VALIDATION, EXTRA = IDS[40:48], IDS[48:]


def _make(labeled=IDS[:48], **changes):
    """40 images to train on, 8 to validate on, 16 on no list."""
    options = dict(
        config.base_config().split.to_dict(),
        labeled_ids_available=labeled,
        all_ids=IDS,
        partitions={"train": tuple(TRAIN), "validation": tuple(VALIDATION)},
        class_counts=np.ones([len(labeled), 2], np.int64),
        unlabeled_includes_labeled=False,
    )
    return splits.make(**{**options, **changes})


def _file(tmp_path, content, name="list.txt"):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text("\n".join(content))
    return str(path)


def _large(ids, **changes):
    return _make(
        ids,
        all_ids=ids,
        class_counts=np.ones([len(ids), 1], np.int8),
        partitions={"train": tuple(ids), "validation": ()},
        **changes,
    )


@pytest.mark.parametrize(
    "step, number", [(2, 5291), (4, 2646), (8, 1323), (16, 662)]
)
def test_partitions_of_cps_on_voc(step, number):
    """Counts of the lists at github.com/charlesCXK/TorchSemiSeg."""
    ids = [f"2008_{i:06d}" for i in range(10_582)]
    rule = dict(labeled_order="sorted", labeled_step=step)
    split = _large(ids, **rule)
    assert len(split.labeled) == number
    assert list(split.labeled) == ids[::step]
    assert sorted(split.labeled + split.unlabeled) == ids
    # The order of the list and of the files is nothing to it.
    backwards = _large(ids[::-1], **rule)
    assert backwards.digest() == split.digest()
    double = _large(ids, labeled_order="sorted", labeled_step=2 * step)
    assert set(double.labeled) < set(split.labeled)


@pytest.mark.parametrize(
    "step, number", [(2, 1488), (4, 744), (8, 372), (16, 186)]
)
def test_partitions_of_cps_on_cityscapes(tmp_path, step, number):
    """Every n-th of their train list, in its order: a file with tabs."""
    order = np.random.default_rng(1).permutation(2975)
    ids = [f"ulm_{i:06d}_000019" for i in order]
    lines = [
        f"/images/train/{i}.png\t/segmentation/train/{i}_gtFine.png"
        for i in ids
    ]
    split = _large(
        sorted(ids),
        train_file=_file(tmp_path, lines),
        labeled_order="listed",
        labeled_step=step,
    )
    assert len(split.labeled) == number
    assert set(split.labeled) == set(ids[::step])
    assert sorted(split.labeled + split.unlabeled) == sorted(ids)


def test_orders_by_hand():
    def labeled(**options):
        return set(_make(num_labeled=3, **options).labeled)

    assert labeled(labeled_order="listed") == set(TRAIN[:3])
    assert labeled(labeled_order="sorted") == set(IDS[:3])
    share = dict(num_labeled=0, labeled_fraction=0.1)
    assert len(_make(labeled_order="listed", **share).labeled) == 4
    step = dict(labeled_order="listed", labeled_step=13)
    assert set(_make(**step).labeled) == {TRAIN[i] for i in (0, 13, 26, 39)}


@pytest.mark.parametrize("seed", [12345, 23456, 34567, 45678, 56789])
def test_random_splits_of_french_et_al(seed):
    """datapipe/datasets.py at github.com/Britefury/cutmix-semisup-seg."""
    order = np.random.RandomState(seed).permutation(40)
    options = dict(seed=seed, labeled_order="random", num_labeled=10)
    split = _make(**options)
    assert set(split.labeled) == {TRAIN[i] for i in order[:10]}
    assert set(split.unlabeled) == {TRAIN[i] for i in order[10:]}
    assert split.validation == tuple(VALIDATION)
    # They learn from the labeled images without labels as well.
    split = _make(unlabeled_includes_labeled=True, **options)
    assert set(split.unlabeled) == set(TRAIN)
    fewer = _make(**{**options, "num_labeled": 4})
    assert set(fewer.labeled) < set(split.labeled)


def test_numpy_shuffles_as_it_did_then():
    """NumPy promises that RandomState does not change; two seeds at hand."""
    ids = IDS[:10]
    options = dict(
        all_ids=ids,
        class_counts=np.ones([10, 1]),
        partitions={"validation": ()},
        labeled_order="random",
        num_labeled=3,
    )
    for seed, first in [(0, (2, 8, 4)), (131, (5, 0, 4))]:
        split = _make(ids, seed=seed, **options)
        assert set(split.labeled) == {IDS[i] for i in first}


def test_held_out_images_of_french_et_al():
    """n_val > 0: the last of one shuffle; the rest is shuffled once more."""
    first = np.array(TRAIN)[np.random.RandomState(131).permutation(40)]
    second = first[:-6][np.random.RandomState(23456).permutation(34)]
    options = dict(labeled_order="random", seed=23456, num_labeled=5)
    split = _make(num_validation=6, **options)
    assert set(split.validation) == set(first[-6:])
    assert set(split.labeled) == set(second[:5])
    assert set(split.unlabeled) == set(second[5:])
    assert split.test == tuple(VALIDATION)
    other = _make(num_validation=6, validation_seed=7, **options)
    assert other.validation != split.validation


@pytest.mark.parametrize("order", ["stratified", "listed", "sorted"])
def test_held_out_images_leave_an_order_as_it_is(order):
    options = dict(num_validation=6, labeled_order=order)
    split = _make(num_labeled=34, **options)
    assert split.unlabeled == () and len(split.validation) == 6
    left = [name for name in TRAIN if name not in split.validation]
    assert split.labeled == tuple(sorted(left))
    few = _make(num_labeled=4, **options)
    assert few.validation == split.validation
    expected = {"listed": left[:4], "sorted": sorted(left)[:4]}
    assert set(few.labeled) == set(expected.get(order, few.labeled))


def test_held_out_images_and_other_lists(tmp_path):
    test_file = _file(tmp_path, EXTRA[:2])
    split = _make(num_validation=6, test_file=test_file)
    assert split.test == tuple(EXTRA[:2])
    labeled_file = _file(tmp_path, TRAIN[:10], "labeled.txt")
    split = _make(num_validation=29, labeled_file=labeled_file)
    assert set(split.labeled) == set(TRAIN[:10])
    assert {*split.validation, *split.unlabeled} == set(TRAIN[10:])
    with pytest.raises(ValueError, match="less than 30, .*num_validation=30"):
        _make(num_validation=30, labeled_file=labeled_file)
    with pytest.raises(ValueError, match="less than 40, .*num_validation=40"):
        _make(num_validation=40)


def _pickle(tmp_path, value):
    return _file(tmp_path, pickle.dumps(value, 2), "split_0.pkl")


def test_pickle_of_mittal_et_al(tmp_path):
    order = np.random.default_rng(2).permutation(40)
    path = _pickle(tmp_path, order)
    split = _make(labeled_file=path, num_labeled=10)
    assert set(split.labeled) == {TRAIN[i] for i in order[:10]}
    assert set(split.unlabeled) == {TRAIN[i] for i in order[10:]}
    assert split.validation == tuple(VALIDATION)
    for other in (0, 7):
        assert split == _make(labeled_file=path, num_labeled=10, seed=other)
    # The data set's own lists of such images do not count.
    lists = {"train": tuple(TRAIN), "validation": tuple(VALIDATION)}
    more = {**lists, "labeled": tuple(IDS[:3])}
    assert split == _make(labeled_file=path, num_labeled=10, partitions=more)
    # The indices count along the list that the user names.
    train_file = _file(tmp_path, IDS[:40])
    split = _make(labeled_file=path, num_labeled=10, train_file=train_file)
    assert set(split.labeled) == {IDS[i] for i in order[:10]}
    # French et al. hold out the last ones.
    split = _make(labeled_file=path, num_labeled=10, num_validation=5)
    assert set(split.labeled) == {TRAIN[i] for i in order[:10]}
    assert set(split.validation) == {TRAIN[i] for i in order[-5:]}
    assert set(split.unlabeled) == {TRAIN[i] for i in order[10:-5]}


def test_pickle_that_does_not_fit(tmp_path):
    path = _pickle(tmp_path, list(range(40)))
    with pytest.raises(ValueError, match="split_0.pkl: has indices along a t"):
        _make(labeled_file=path, partitions={"validation": tuple(VALIDATION)})
    with pytest.raises(ValueError, match="has 40 indices, .* 64 images.*train"):
        _make(labeled_file=path, train_file=_file(tmp_path, IDS))


def test_pickle_that_wants_labels_that_are_not_there(tmp_path):
    labeled = [name for name in IDS[:48] if name not in TRAIN[2:4]]
    path = _pickle(tmp_path, list(range(40)))
    split = _make(labeled, labeled_file=path, num_labeled=2)
    assert set(split.labeled) == set(TRAIN[:2])
    message = f"1 ids of the labeled list have no mask .*{TRAIN[2]}. Fix: "
    with pytest.raises(ValueError, match=message):
        _make(labeled, labeled_file=path, num_labeled=3)
    path = _pickle(tmp_path, [*range(3), *range(4, 40), 3])
    message = f"1 ids of the validation list have no mask .*{TRAIN[3]}. Fix: "
    with pytest.raises(ValueError, match=message):
        _make(labeled, labeled_file=path, num_labeled=2, num_validation=1)


def test_few_labels_from_lists(tmp_path):
    """The standard train list is IDS[:20], the augmented one all 40."""
    labeled = b"\r\n".join(
        b"JPEGImages/%s.jpg SegmentationClass/%s.png" % (i, i)
        for i in (b"id_003", b"id_001", b"id_011")
    )
    files = dict(labeled_file=_file(tmp_path, labeled, "labeled.txt"))
    few = {"id_001", "id_003", "id_011"}
    # The paper: the rest of all images.
    split = _make(**files)
    assert set(split.labeled) == few
    assert set(split.unlabeled) == set(TRAIN) - few
    # The published lists: the rest of the standard ones, by rule or list.
    standard = _file(tmp_path, IDS[:20], "train.txt")
    split = _make(train_file=standard, **files)
    assert set(split.unlabeled) == set(IDS[:20]) - few
    rest = _file(tmp_path, sorted(set(IDS[:20]) - few), "unlabeled.txt")
    assert _make(unlabeled_file=rest, **files).digest() == split.digest()


def test_all_labels_and_more_images(tmp_path):
    def unlabeled(pool, **options):
        return set(_make(unlabeled_pool=pool, **options).unlabeled)

    split = _make(unlabeled_pool="extra")
    assert set(split.labeled) == set(TRAIN)
    assert split.unlabeled == tuple(EXTRA)
    both = {*EXTRA, *TRAIN}
    assert unlabeled("extra", unlabeled_includes_labeled=True) == both
    few = dict(num_labeled=3, labeled_order="listed")
    assert unlabeled("train", **few) == set(TRAIN[3:])
    assert unlabeled("extra", **few) == set(EXTRA)
    assert unlabeled("all", **few) == {*EXTRA, *TRAIN[3:]}
    # Test images are none of them.
    test_file = _file(tmp_path, EXTRA[3:])
    assert unlabeled("all", test_file=test_file) == set(EXTRA[:3])
    # The data set's own list, or what is asked for instead.
    lists = {"train": tuple(TRAIN), "unlabeled": tuple(EXTRA[:2])}
    lists["validation"] = tuple(VALIDATION)
    assert unlabeled("", partitions=lists, **few) == set(EXTRA[:2])
    assert unlabeled("train", partitions=lists, **few) == set(TRAIN[3:])
    assert unlabeled("extra", partitions=lists, **few) == set(EXTRA)


def test_train_images_without_masks_are_extra_ones():
    """As the coarsely labeled images of Cityscapes."""
    options = dict(num_labeled=3, labeled_order="listed")
    options["partitions"] = {
        "train": (*TRAIN, *EXTRA),
        "validation": tuple(VALIDATION),
    }

    def unlabeled(pool):
        split = _make(unlabeled_pool=pool, **options)
        assert set(split.labeled) == set(TRAIN[:3])
        return list(split.unlabeled)

    assert unlabeled("extra") == EXTRA
    for pool in ("", "train", "all"):
        assert unlabeled(pool) == sorted([*TRAIN[3:], *EXTRA])
    # A folder without lists: 16 of its images have no mask.
    split = _make(unlabeled_pool="extra", partitions={})
    assert list(split.unlabeled) == EXTRA


@pytest.mark.parametrize("pool", ["extra", "all"])
def test_no_more_images_is_named(pool):
    message = f"unlabeled_pool` is '{pool}', but every image has a mask.*Fix: "
    with pytest.raises(ValueError, match=message):
        _make(IDS, unlabeled_pool=pool, partitions={})


@pytest.mark.parametrize("order", ["stratified", "random", "sorted"])
def test_order_of_the_files_is_nothing(order):
    options = dict(partitions={}, labeled_order=order, num_labeled=7, seed=3)
    split = _make(**options)
    mixed = [IDS[i] for i in np.random.default_rng(5).permutation(64)]
    labeled = [name for name in mixed if name in IDS[:48]]
    again = _make(labeled, all_ids=mixed, **options)
    assert again.digest() == split.digest()
    parts = (split.labeled, split.unlabeled, split.validation)
    assert sorted(sum(parts, ())) == IDS


def test_counts_share_and_digest_are_logged(caplog):
    logging.get_absl_logger().propagate = True
    caplog.set_level("INFO")
    split = _make(num_labeled=5)
    assert (
        "split: 5 labeled of 40 training images (12.50%), 35 unlabeled, "
        f"8 validation, 0 test; digest {split.digest()}"
    ) in caplog.text
