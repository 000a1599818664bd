# SPDX-License-Identifier: Apache-2.0
"""Which images train with labels, train without, validate and test.

All functions are pure: equal ids and seed give equal splits, in whatever
order the files were found.
"""

import dataclasses
import hashlib
import math

import numpy as np

from tfseg import id_lists

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
    *,
    labeled_ids_available,
    all_ids,
    partitions,
    class_counts,
    seed,
    num_labeled,
    labeled_fraction,
    validation_fraction,
    labeled_file,
    unlabeled_file,
    validation_file,
    test_file,
    unlabeled_includes_labeled,
):
    """Divides a data set.

    For each part, a file that the user names goes before the data set's own
    list, and that before what is computed here. A list of labeled ids says
    which may be used; `num_labeled` or `labeled_fraction`, how many of them.

    Args:
      labeled_ids_available: L ids that have a mask.
      all_ids: every id.
      partitions: the data set's own lists, name -> ids.
      class_counts: int [L, C], pixels of each class in each labeled image.
      seed: int.
      num_labeled: labeled images to use; 0 = by `labeled_fraction`.
      labeled_fraction: share of the labeled images to use, (0, 1].
      validation_fraction: share of the labeled images held out where there
        is no validation list, [0, 1); 0 = no validation.
      labeled_file, unlabeled_file, validation_file, test_file: text files of
        ids, or "".
      unlabeled_includes_labeled: the labeled images are unlabeled ones as
        well; a list of unlabeled ids is used as it is.

    Returns:
      Split.

    Raises:
      ValueError: a list is malformed, parts overlap, a label is missing, or
        there are not enough images; says the fix.
    """
    lists = _lists(
        partitions,
        frozenset(all_ids),
        labeled=labeled_file,
        unlabeled=unlabeled_file,
        validation=validation_file,
        test=test_file,
    )
    counts = dict(zip(labeled_ids_available, np.asarray(class_counts)))
    for part in ("labeled", "validation"):
        _check_have_labels(part, lists.get(part, ()), counts)
    test = lists.get("test", ())
    pool = _minus(lists.get("train", all_ids), test)
    if "train" not in lists:
        pool = _minus(pool, lists.get("validation", ()))
    validation = lists.get("validation")
    if validation is None:
        taken = (*lists.get("labeled", ()), *lists.get("unlabeled", ()))
        candidates = [name for name in _minus(pool, taken) if name in counts]
        validation = _hold_out(candidates, counts, validation_fraction, seed)
        pool = _minus(pool, validation)
    candidates = lists.get("labeled", [n for n in pool if n in counts])
    labeled = take(
        _ordered(candidates, counts, seed, _LABELED_STREAM),
        _amount(num_labeled, labeled_fraction),
    )
    unlabeled = lists.get("unlabeled")
    if unlabeled is None:
        unlabeled = _minus(pool, labeled)
        if unlabeled_includes_labeled:
            unlabeled = (*unlabeled, *labeled)
    _check_apart(labeled, unlabeled, validation, test)
    parts = (labeled, unlabeled, validation, test)
    return Split(*(tuple(sorted(part)) for part in parts))


def _lists(partitions, known, **files):
    """The lists that are given, the user's files before the data set's."""
    lists = dict(partitions)
    for part, path in files.items():
        if path:
            lists[part] = id_lists.read_ids(path, known)
            if not lists[part] and part != "unlabeled":
                raise ValueError(
                    f"`config.split.{part}_file` {path}: lists no id. Fix: "
                    "list ids, or leave the option empty."
                )
    return lists


def _amount(num_labeled, labeled_fraction):
    if num_labeled and labeled_fraction != 1:
        raise ValueError(
            "`num_labeled` and `labeled_fraction` exclude each other. "
            f"Received: num_labeled={num_labeled}, "
            f"labeled_fraction={labeled_fraction}. Fix: leave one at its "
            "default (0 or 1.0)."
        )
    return num_labeled or float(labeled_fraction)


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
