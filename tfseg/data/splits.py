# SPDX-License-Identifier: Apache-2.0
"""Which images train with labels, train without, validate and test.

All functions are pure: equal ids, lists and options give equal splits, in
whatever order the files were found.
"""

import dataclasses
import hashlib
import math

import numpy as np
from absl import logging

from tfseg import id_lists, index_pickle, split_options

# The labeled images and the held-out ones are drawn independently.
_LABELED_STREAM, _VALIDATION_STREAM = "labeled", "validation"


@dataclasses.dataclass(frozen=True)
class Split:
    """Sorted ids of each part; `unlabeled` may include the labeled ones."""

    labeled: tuple
    unlabeled: tuple
    validation: tuple
    test: tuple

    def to_dict(self):
        """A dict that JSON can hold, with the digest."""
        return {**dataclasses.asdict(self), "digest": self.digest()}

    def digest(self):
        """sha256 (hex) of the ids and the part that each is in."""
        sha = hashlib.sha256()
        for part, ids in dataclasses.asdict(self).items():
            # An id holds no line break: tfseg.datasets refuses such a name.
            sha.update("\n".join([f"[{part}]", *ids, ""]).encode())
        return sha.hexdigest()


def nested_order(ids, class_counts, seed, stream=_LABELED_STREAM):
    """An order of ids of which every beginning is a split.

    First the images that bring the most classes not yet there, until every
    class is there; then the rest. Ties and the rest go by a hash of the seed
    and the id, which new images leave as it is.

    Args:
      ids: N different strings, in any order.
      class_counts: int [N, C], pixels of each class in each image.
      seed: int.
      stream: str, orders of different streams are independent.

    Returns:
      tuple of the N ids.
    """
    keys = [
        hashlib.sha256(f"{seed}/{stream}/{name}".encode()).digest()
        for name in ids
    ]
    order = sorted(range(len(ids)), key=keys.__getitem__)
    present = np.asarray(class_counts)[order] > 0
    first = _cover(present)
    taken = set(first)
    rest = (i for i in range(len(ids)) if i not in taken)
    return tuple(ids[order[i]] for i in [*first, *rest])


def _cover(present):
    """Rows that together show every class, the most useful first."""
    missing = present.any(0)
    rows = []
    while missing.any():
        rows.append(int(np.argmax(present[:, missing].sum(1))))
        missing = missing & ~present[rows[-1]]
    return rows


def take(order, amount):
    """The beginning of an order.

    Args:
      order: tuple of ids.
      amount: int, number of ids; or float, share of them, rounded to the
        nearest number and at least 1.

    Returns:
      tuple of ids.

    Raises:
      ValueError: no id, more than there are, or a share outside (0, 1].
    """
    if isinstance(amount, float):
        if not 0 < amount <= 1:
            raise ValueError(
                "`labeled_fraction` must be in (0, 1]. "
                f"Received: labeled_fraction={amount}."
            )
        amount = max(1, math.floor(amount * len(order) + 0.5))
    if not 1 <= amount <= len(order):
        raise ValueError(
            f"`num_labeled` must be in 1..{len(order)}, the number of labeled "
            f"images to choose from. Received: num_labeled={amount}. Fix: "
            "choose another number, or add masks to labels/."
        )
    return tuple(order[:amount])


def make(
    *, labeled_ids_available, all_ids, partitions, class_counts, **options
):
    """Divides a data set.

    For each part, a file that the user names goes before the data set's own
    list, and that before what is computed here. A list of labeled ids says
    which may be used; the options, how many of them and in which order.

    Args:
      labeled_ids_available: L ids that have a mask.
      all_ids: every id.
      partitions: the data set's own lists, name -> ids.
      class_counts: int [L, C], pixels of each class in each labeled image.
      **options: every field of split_options.Options.

    Returns:
      Split.

    Raises:
      ValueError: options contradict, a list is malformed, parts overlap, a
        label is missing, or there are not enough images; says the fix.
    """
    options = split_options.Options(**options)
    all_ids = tuple(sorted(all_ids))
    counts = dict(zip(labeled_ids_available, np.asarray(class_counts)))
    lists = _lists(partitions, all_ids, options)
    _check_have_labels("labeled", lists.get("labeled", ()), counts)
    test = lists.get("test", ())
    pool = _minus(lists.get("train", all_ids), test)
    if "train" not in lists:
        pool = _minus(pool, lists.get("validation", ()))
    pool, validation = _validation(lists, pool, counts, options)
    labeled = _labeled(lists, pool, counts, options)
    for part, ids in {"labeled": labeled, "validation": validation}.items():
        _check_have_labels(part, ids, counts)
    unlabeled = lists.get("unlabeled")
    if unlabeled is None:
        outside = _minus(all_ids, (*pool, *labeled, *validation, *test))
        bare = [name for name in pool if name not in counts]
        extra = (*bare, *outside)
        unlabeled = _unlabeled(_minus(pool, labeled), extra, labeled, options)
    _check_apart(labeled, unlabeled, validation, test)
    parts = (labeled, unlabeled, validation, test)
    split = Split(*(tuple(sorted(part)) for part in parts))
    _log(split, len({*pool, *labeled}))
    return split


def _lists(partitions, all_ids, options):
    """The lists that count, the user's files before the data set's."""
    lists = dict(partitions)
    known = frozenset(all_ids)
    files = options.files
    pickled = files.pop("labeled") if options.has_pickle else ""
    for part, path in files.items():
        if path:
            lists[part] = id_lists.read_ids(path, known)
            if not lists[part] and part != "unlabeled":
                raise ValueError(
                    f"`config.split.{part}_file` {path}: lists no id. Fix: "
                    "list ids, or leave the option empty."
                )
    if pickled:
        lists.pop("labeled", None)
        lists["train"] = _permuted(pickled, lists.get("train"))
    if options.unlabeled_pool:
        lists.pop("unlabeled", None)
    if options.num_validation and "validation" in lists:
        published = lists.pop("validation")
        if not options.test_file:
            lists["test"] = published
    return lists


def _permuted(path, train):
    """The train list in the order of a pickle."""
    if train is None:
        raise ValueError(
            f"`config.split.labeled_file` {path}: has indices along a train "
            "list, and the data set brings none. Fix: name it as "
            "`config.split.train_file`."
        )
    return tuple(train[i] for i in index_pickle.read(path, len(train)))


def _validation(lists, pool, counts, options):
    """What is left to train on, and the ids to validate on."""
    if "validation" in lists:
        return pool, lists["validation"]
    taken = (*lists.get("labeled", ()), *lists.get("unlabeled", ()))
    free = _usable(_minus(pool, taken), counts, options)
    if not options.num_validation:
        validation = _hold_out(
            free, counts, options.validation_fraction, options.seed
        )
        return _minus(pool, validation), validation
    number = options.num_validation
    if not 0 < number < len(free):
        raise ValueError(
            f"`num_validation` must be less than {len(free)}, the number of "
            "labeled images to train and to validate on. "
            f"Received: num_validation={number}. Fix: hold out fewer."
        )
    if not options.has_pickle:
        free = _shuffled(free, options.validation_seed)
    validation = free[-number:]
    if options.labeled_order == "random":
        # French et al. shuffle once more what their first shuffle has left.
        pool = (*free, *_minus(pool, free))
    return _minus(pool, validation), validation


def _labeled(lists, pool, counts, options):
    """The ids whose labels are used."""
    ids = lists.get("labeled", _usable(pool, counts, options))
    if options.labeled_order == "sorted":
        ids = tuple(sorted(ids))
    elif options.labeled_order == "random":
        ids = _shuffled(ids, options.seed)
    elif options.labeled_order == "stratified" and not options.has_pickle:
        ids = _ordered(ids, counts, options.seed, _LABELED_STREAM)
    return take(
        ids[:: options.labeled_step],
        options.num_labeled or float(options.labeled_fraction),
    )


def _usable(ids, counts, options):
    """Those with a mask; all of a published order, so that a gap is seen."""
    if options.has_pickle:
        return tuple(ids)
    return tuple(name for name in ids if name in counts)


def _unlabeled(rest, extra, labeled, options):
    """The ids to learn from without labels."""
    choice = options.unlabeled_pool or "train"
    if choice != "train" and not extra:
        raise ValueError(
            f"`config.split.unlabeled_pool` is {choice!r}, but every image "
            "has a mask and is on a list. Fix: add images without masks, "
            "name a `train_file`, or set it to 'train'."
        )
    more = labeled if options.unlabeled_includes_labeled else ()
    ids = {"train": rest, "extra": extra, "all": (*rest, *extra)}[choice]
    return tuple({*ids, *more})


def _log(split, num_train):
    logging.info(
        "split: %d labeled of %d training images (%.2f%%), %d unlabeled, "
        "%d validation, %d test; digest %s",
        len(split.labeled),
        num_train,
        100 * len(split.labeled) / num_train,
        len(split.unlabeled),
        len(split.validation),
        len(split.test),
        split.digest(),
    )


def _shuffled(ids, seed):
    order = np.random.RandomState(seed).permutation(len(ids))
    return tuple(ids[i] for i in order)


def _minus(ids, others):
    others = frozenset(others)
    return tuple(name for name in ids if name not in others)


def _ordered(ids, counts, seed, stream):
    return nested_order(ids, [counts[name] for name in ids], seed, stream)


def _hold_out(ids, counts, fraction, seed):
    """Ids for validation, of which training keeps an image of each class."""
    if not 0 <= fraction < 1:
        raise ValueError(
            "`validation_fraction` must be in [0, 1). "
            f"Received: validation_fraction={fraction}."
        )
    if fraction == 0:
        return ()
    if len(ids) < 2:
        raise ValueError(
            f"{len(ids)} labeled images are left to hold out validation "
            "images from. Fix: add masks, name a `validation_file`, or set "
            "validation_fraction to 0."
        )
    order = _ordered(ids, counts, seed, _VALIDATION_STREAM)
    number = max(1, math.floor(fraction * len(ids) + 0.5))
    left = sum((counts[name] > 0).astype(int) for name in ids)
    chosen = []
    for name in order:
        here = counts[name] > 0
        if len(chosen) < number and (left[here] > 1).all():
            chosen.append(name)
            left = left - here
    return tuple(chosen or order[:1])


def _check_have_labels(part, ids, counts):
    bare = sorted(set(ids) - counts.keys())
    if bare:
        raise ValueError(
            f"{len(bare)} ids of the {part} list have no mask in labels/: "
            f"{id_lists.shorten(bare)}. Fix: add the masks, or take the ids "
            "off the list."
        )


def _check_apart(labeled, unlabeled, validation, test):
    held_out = {"validation": validation, "test": test}
    for name, ids in {"labeled": labeled, "unlabeled": unlabeled}.items():
        for part, others in held_out.items():
            id_lists.check_disjoint({name: ids, part: others})
    id_lists.check_disjoint(held_out)
