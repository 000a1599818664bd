# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from tfseg import config
from tfseg.data import splits

IDS = [f"id_{i:03d}" for i in range(64)]


def _counts(seed=0, classes=6, rare=0.05):
    """Class 0 everywhere, the others seldom but somewhere."""
    rng = np.random.default_rng(seed)
    counts = (rng.random([64, classes]) < rare) * rng.integers(1, 99, [64, 1])
    counts[:, 0] = 100
    counts[rng.integers(0, 64, classes), range(classes)] = 7
    return counts


def _shows(ids, counts):
    rows = [IDS.index(name) for name in ids]
    return (counts[rows] > 0).any(0)


def _make(**changes):
    options = dict(
        config.base_config().split.to_dict(),
        labeled_ids_available=IDS[:32],
        all_ids=IDS,
        partitions={},
        class_counts=np.ones([32, 2], np.int64),
        validation_fraction=0.25,
        unlabeled_includes_labeled=False,
    )
    return splits.make(**{**options, **changes})


@pytest.mark.parametrize("seed", range(5))
def test_order_is_a_permutation_whatever_order_came_in(seed):
    counts = _counts(seed)
    order = splits.nested_order(IDS, counts, seed)
    assert sorted(order) == IDS
    shuffled = np.random.default_rng(9).permutation(64)
    again = splits.nested_order(
        [IDS[i] for i in shuffled], counts[shuffled], seed
    )
    assert again == order
    assert splits.nested_order(IDS, counts, seed + 1) != order
    assert splits.nested_order(IDS, counts, seed, "validation") != order


@pytest.mark.parametrize("seed", range(5))
def test_short_beginnings_show_every_class(seed):
    counts = _counts(seed)
    order = splits.nested_order(IDS, counts, seed)
    assert _shows(order[:6], counts).all()
    # The first image shows the most classes that one image can show.
    best = (counts > 0).sum(1).max()
    assert _shows(order[:1], counts).sum() == best


def test_cover_by_hand():
    ids = ["a", "b", "c", "d"]
    counts = [[9, 0, 0, 0], [9, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]]
    # Class 3 is nowhere; c alone shows all others.
    for seed in range(8):
        assert splits.nested_order(ids, counts, seed)[0] == "c"
    counts[3][3] = 1
    for seed in range(8):
        assert splits.nested_order(ids, counts, seed)[:2] == ("c", "d")


def test_order_of_the_rest_is_fair_and_stable():
    counts = np.ones([64, 1])
    orders = [splits.nested_order(IDS, counts, seed) for seed in range(300)]
    places = np.array([order.index(IDS[0]) for order in orders])
    assert abs(places.mean() - 31.5) < 4 and len(set(places)) > 50
    # New images leave the order of the others as it is.
    fewer = splits.nested_order(IDS[:40], counts[:40], 3)
    more = splits.nested_order(IDS, counts, 3)
    assert tuple(name for name in more if name in IDS[:40]) == fewer


def test_no_class_at_all_and_no_ids():
    assert len(splits.nested_order(IDS, np.zeros([64, 3]), 0)) == 64
    assert splits.nested_order([], np.zeros([0, 3]), 0) == ()


def test_take_counts_and_shares():
    order = tuple("abcdefgh")
    assert splits.take(order, 3) == ("a", "b", "c")
    assert splits.take(order, 1.0) == order
    assert splits.take(order, 8) == order
    assert splits.take(order, 1) == ("a",)
    assert len(splits.take(order, 0.31)) == 2  # 2.48
    assert len(splits.take(order, 0.3125)) == 3  # 2.5
    assert splits.take(order, 0.001) == ("a",)


@pytest.mark.parametrize(
    "order, amount, message",
    [
        ("abc", 0, r"must be in 1..3.*num_labeled=0"),
        ("abc", 4, r"must be in 1..3.*num_labeled=4"),
        ("abc", -1, r"num_labeled=-1"),
        ("abc", 0.0, r"must be in \(0, 1\].*labeled_fraction=0.0"),
        ("abc", 1.5, r"labeled_fraction=1.5"),
        ("abc", float("nan"), r"labeled_fraction=nan"),
        ("", 1.0, r"1..0"),
    ],
)
def test_take_refuses(order, amount, message):
    with pytest.raises(ValueError, match=message):
        splits.take(tuple(order), amount)


@pytest.mark.parametrize("seed", range(4))
def test_fractions_are_nested(seed):
    counts = _counts(seed)
    parts = [
        set(
            _make(
                seed=seed,
                labeled_ids_available=IDS,
                class_counts=counts,
                labeled_fraction=fraction,
            ).labeled
        )
        for fraction in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    ]
    assert [len(part) for part in parts] == [3, 6, 12, 24, 48]
    for smaller, larger in zip(parts, parts[1:]):
        assert smaller < larger


def test_computed_parts_divide_the_data_set():
    split = _make(num_labeled=10)
    assert len(split.validation) == 8 and len(split.labeled) == 10
    assert len(split.unlabeled) == 64 - 18 and split.test == ()
    assert set(split.validation) | set(split.labeled) <= set(IDS[:32])
    assert not set(split.validation) & set(split.labeled)
    assert not set(split.unlabeled) & {*split.validation, *split.labeled}
    for part in (split.labeled, split.unlabeled, split.validation):
        assert list(part) == sorted(part)
    # The labels to choose from do not change what validates.
    assert _make(num_labeled=3).validation == split.validation
    assert _make(num_labeled=10, seed=1).validation != split.validation
    # Held out and labeled images are not drawn from the same order.
    order = splits.nested_order(IDS[:32], np.ones([32, 2]), 0)
    assert set(order[:8]) != set(split.validation)
    together = _make(num_labeled=10, unlabeled_includes_labeled=True)
    assert set(together.unlabeled) == {*split.unlabeled, *split.labeled}


@pytest.mark.parametrize("seed", range(6))
def test_held_out_and_kept_images_show_every_class(seed):
    # Two images of each class, in pairs: 32 rare classes.
    counts = np.repeat(np.eye(16, dtype=int), 2, 0)
    split = _make(class_counts=counts, validation_fraction=0.5, seed=seed)
    rows = {name: i for i, name in enumerate(IDS)}
    for part in (split.validation, split.labeled):
        assert len(part) == 16
        assert counts[[rows[name] for name in part]].any(0).all()
    # A class that one image alone shows stays in training.
    counts = np.ones([32, 2], int)
    counts[:, 1] = 0
    counts[5, 1] = 1
    assert IDS[5] in _make(class_counts=counts, seed=seed).labeled


def test_one_image_is_held_out_even_if_a_class_goes_with_it():
    split = _make(
        labeled_ids_available=IDS[:2], class_counts=np.eye(2, dtype=int)
    )
    assert len(split.validation) == len(split.labeled) == 1


def test_no_validation_if_asked():
    split = _make(validation_fraction=0.0)
    assert split.validation == () and len(split.labeled) == 32


def test_partitions_go_before_what_is_computed():
    partitions = {
        "train": tuple(IDS[:20]),
        "validation": tuple(IDS[20:24]),
        "test": tuple(IDS[40:44]),
    }
    split = _make(partitions=partitions, num_labeled=5)
    assert split.validation == tuple(IDS[20:24])
    assert split.test == tuple(IDS[40:44])
    assert {*split.labeled, *split.unlabeled} == set(IDS[:20])
    del partitions["train"]
    split = _make(partitions=partitions, num_labeled=5)
    pool = set(IDS) - set(IDS[20:24]) - set(IDS[40:44])
    assert {*split.labeled, *split.unlabeled} == pool
    del partitions["validation"]
    split = _make(partitions={"train": tuple(IDS[:20])}, num_labeled=5)
    assert len(split.validation) == 5 and set(split.validation) < set(IDS[:20])
    parts = {*split.labeled, *split.unlabeled, *split.validation}
    assert parts == set(IDS[:20])


def test_given_labeled_and_unlabeled_lists():
    partitions = {"labeled": tuple(IDS[:8]), "unlabeled": tuple(IDS[50:])}
    split = _make(partitions=partitions)
    assert split.labeled == tuple(IDS[:8])
    assert split.unlabeled == tuple(IDS[50:])
    # Held out of the labeled images that no list claims.
    assert len(split.validation) == 6
    assert set(split.validation) < set(IDS[8:32])
    for seed in range(3):
        split = _make(partitions={"unlabeled": tuple(IDS[:20])}, seed=seed)
        assert set(split.validation) < set(IDS[20:32])
    # A number takes so many of the list; the unlabeled list stays as it is.
    split = _make(
        partitions=partitions, num_labeled=3, unlabeled_includes_labeled=True
    )
    assert len(split.labeled) == 3 and set(split.labeled) < set(IDS[:8])
    assert split.unlabeled == tuple(IDS[50:])


def _list(tmp_path, name, ids):
    (tmp_path / name).write_text("\n".join(ids))
    return str(tmp_path / name)


def test_files_of_the_user_go_before_partitions(tmp_path):
    partitions = {
        name: tuple(IDS[place : place + 4])
        for place, name in enumerate(("labeled", "validation", "test"))
    }
    split = _make(
        partitions=partitions,
        labeled_file=_list(tmp_path, "l.txt", IDS[10:12]),
        validation_file=_list(tmp_path, "v.txt", IDS[12:14]),
        unlabeled_file=_list(tmp_path, "u.txt", IDS[14:16]),
        test_file=_list(tmp_path, "t.txt", IDS[16:18]),
    )
    parts = (split.labeled, split.validation, split.unlabeled, split.test)
    assert parts == tuple(tuple(IDS[i : i + 2]) for i in (10, 12, 14, 16))


@pytest.mark.parametrize(
    "files, message",
    [
        ({"labeled": [5, 40]}, "1 ids of the labeled list have no mask.*040"),
        ({"validation": [40]}, "1 ids of the validation list have no mask"),
        ({"labeled": [1, 2], "validation": [2]}, "labeled and validation sha"),
        ({"labeled": [1, 2], "test": [1]}, "labeled and test share 1 .*001"),
        ({"unlabeled": [9], "validation": [9]}, "unlabeled and validation"),
        ({"unlabeled": [9], "test": [9]}, "unlabeled and test share"),
        ({"validation": [9, 3], "test": [9, 3]}, "validation and test share 2"),
        ({"labeled": []}, "labeled_file.*lists no id"),
        ({"validation": [1, 1]}, "line 2: .* is there twice"),
        (
            {"test": [99]},
            "line 1: there is no image with the id or path 'id_099'",
        ),
    ],
)
def test_bad_lists_are_refused(tmp_path, files, message):
    paths = {
        f"{name}_file": _list(tmp_path, name, [f"id_{i:03d}" for i in ids])
        for name, ids in files.items()
    }
    with pytest.raises(ValueError, match=message) as error:
        _make(**paths)
    assert "Fix: " in str(error.value)


def test_train_list_that_holds_validation_images_is_refused():
    partitions = {"train": tuple(IDS[:20]), "validation": tuple(IDS[18:22])}
    with pytest.raises(ValueError, match="validation share 2 ids"):
        _make(partitions=partitions)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_labeled": 25}, "must be in 1..24.*num_labeled=25"),
        ({"labeled_fraction": 1.1}, "labeled_fraction=1.1"),
        ({"labeled_fraction": 0.5, "num_labeled": 3}, "exclude each other"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"validation_fraction": -0.1}, "validation_fraction=-0.1"),
        (
            {
                "labeled_ids_available": IDS[:1],
                "class_counts": np.ones([1, 2]),
            },
            "1 labeled images are left to hold out",
        ),
        (
            {"partitions": {"labeled": tuple(IDS[:32])}},
            "0 labeled images are left to hold out.*validation_file",
        ),
    ],
)
def test_bad_numbers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _make(**changes)


def test_digest_tells_splits_apart():
    split = splits.Split(("a",), ("b", "c"), ("d",), ())
    assert split.digest() == splits.Split(*split.__dict__.values()).digest()
    assert len(split.digest()) == 64
    others = [
        splits.Split(("a", "b"), ("c",), ("d",), ()),
        splits.Split(("a",), ("b", "c"), (), ("d",)),
        splits.Split(("a",), ("bc",), ("d",), ()),
    ]
    assert len({other.digest() for other in [split, *others]}) == 4
    assert split.to_dict()["digest"] == split.digest()
    assert split.to_dict()["unlabeled"] == ("b", "c")


def test_many_images_are_quick():
    ids = [f"{i:06d}" for i in range(20_000)]
    counts = np.random.default_rng(0).integers(0, 2, [20_000, 21])
    split = _make(
        labeled_ids_available=ids,
        all_ids=ids,
        class_counts=counts,
        num_labeled=5000,
    )
    assert len(split.validation) == 5000 and len(split.unlabeled) == 10_000
