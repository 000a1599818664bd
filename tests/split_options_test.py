# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from tfseg import config, split_options

DEFAULTS = config.base_config().split.to_dict()


def _options(**changes):
    return split_options.Options(**{**DEFAULTS, **changes})


def test_fields_are_those_of_the_config():
    assert dataclasses.asdict(_options()) == DEFAULTS


def test_pickles_are_told_by_their_name():
    for name in ("a/split_0.pkl", "SPLIT.PKL", "s.pickle"):
        assert _options(labeled_file=name).has_pickle
    for name in ("", "pkl.txt", "a.pkl/l.txt"):
        assert not _options(labeled_file=name).has_pickle


@pytest.mark.parametrize(
    "changes",
    [
        {"labeled_order": "random", "num_labeled": 100, "seed": 12345},
        {"labeled_order": "sorted", "labeled_step": 8},
        {"labeled_order": "listed", "labeled_step": 8, "train_file": "t.txt"},
        {"labeled_file": "split_0.pkl", "num_labeled": 1323},
        {"labeled_file": "split_0.PKL", "labeled_order": "listed"},
        {"labeled_file": "l.txt", "labeled_fraction": 0.5},
        {"labeled_file": "l.txt", "unlabeled_file": "u.txt"},
        {"num_validation": 200, "test_file": "t.txt"},
        {"unlabeled_pool": "extra", "unlabeled_includes_labeled": False},
    ],
)
def test_published_protocols_can_be_said(changes):
    assert dataclasses.asdict(_options(**changes)) == {**DEFAULTS, **changes}


@pytest.mark.parametrize(
    "one, other",
    [
        (("num_labeled", 3), ("labeled_fraction", 0.5)),
        (("num_labeled", 3), ("labeled_step", 8)),
        (("labeled_fraction", 0.5), ("labeled_step", 8)),
        (("num_validation", 20), ("validation_file", "v.txt")),
        (("unlabeled_pool", "extra"), ("unlabeled_file", "u.txt")),
    ],
)
def test_options_that_contradict_are_named(one, other):
    with pytest.raises(ValueError) as error:
        _options(labeled_order="sorted", **dict([one, other]))
    message = str(error.value)
    for name, value in (one, other):
        assert f"`config.split.{name}`" in message
        assert f"{name}={value!r}" in message
    assert "exclude each other" in message and "Fix: leave one at" in message


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labeled_order": "shuffled"}, "labeled_order` must be one of .*'ran"),
        ({"unlabeled_pool": "rest"}, "unlabeled_pool` must be one of .*'rest'"),
        ({"labeled_step": 0}, "labeled_step` must be 1 or more. Got: 0"),
        ({"labeled_step": 8}, "labeled_order` is 'stratified'. Fix: .*'sort"),
        (
            {"labeled_step": 2, "labeled_order": "random"},
            "labeled_step` is 2, but .*labeled_order` is 'random'. Fix",
        ),
        (
            {"labeled_file": "a/b.pkl", "labeled_order": "sorted"},
            "labeled_file` a/b.pkl is an order .*cannot be 'sorted'. Fix",
        ),
        ({"unlabeled_file": "u.pkl"}, "unlabeled_file` u.pkl: only `labeled_f"),
        ({"train_file": "t.pickle"}, "train_file` t.pickle: only.*Fix"),
    ],
)
def test_bad_options_are_named(changes, message):
    with pytest.raises(ValueError, match=f"`config.split.{message}"):
        _options(**changes)


def test_they_are_checked_with_the_config():
    options = config.base_config()
    options.split.num_labeled = 3
    options.split.labeled_fraction = 0.5
    with pytest.raises(ValueError, match="num_labeled.*exclude each other"):
        config.validate(options)
