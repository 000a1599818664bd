# SPDX-License-Identifier: Apache-2.0
import pytest

from tfseg import mask_code
from tfseg.datasets import base
from tfseg.datasets.layout import published

INFO = base.Info("toy", ("a",), ((0, 0, 0),))


def _paths(end, ids):
    return {name: f"/{name}{end}" for name in ids}


def _part(ids, images=None, labels=None, size=None, **options):
    images = ids if images is None else images
    labels = None if labels is None else _paths(".png", labels)
    size = len(ids) if size is None else size
    images = _paths(".jpg", images)
    return published.Part(tuple(ids), images, labels, size, **options)


def _dataset(classes=None, **parts):
    code = mask_code.MaskCode()
    return published.dataset("DIR", INFO, code, parts, classes)


def test_whole_data_set_gives_no_warning(caplog):
    dataset = _dataset(
        train=_part("ba", labels="ab"),
        extra=_part("dc"),
        validation=_part("e", labels="e"),
        test=_part("f"),
        classes={"a": (3,)},
    )
    assert caplog.text == ""
    assert list(dataset.records) == list("abcdef")
    assert dataset.partitions == {
        "train": ("b", "a", "d", "c"),
        "validation": ("e",),
        "test": ("f",),
    }
    assert dataset.records["a"] == base.Record("a", "/a.jpg", "/a.png", (3,))
    assert dataset.records["d"] == base.Record("d", "/d.jpg", None, None)


def test_one_warning_says_what_is_missing(caplog):
    dataset = _dataset(
        train=_part("abcd", images="abc", labels="bcd", size=4),
        validation=_part("efg", images="efg", labels="eg", notes=("N",)),
        test=_part("h", labels="h", size=1),
    )
    (record,) = caplog.records
    assert record.getMessage() == (
        "DIR: toy differs from what was published: "
        "train has 3 of 4 images - no image of 1 ids: d - no mask, so "
        "unlabeled: 1 ids: a; "
        "validation has 2 of 3 images - no mask, so left out: 1 ids: f - N"
    )
    assert dataset.partitions["train"] == ("a", "b", "c")
    assert dataset.records["a"].label is None
    assert dataset.partitions["validation"] == ("e", "g")
    assert "f" not in dataset.records and "d" not in dataset.records


def test_more_than_published_is_said_too(caplog):
    _dataset(train=_part("abc", labels="abc", size=2))
    assert "train has 3 of 2 images" in caplog.text


def test_parts_that_are_not_unpacked_are_refused(caplog):
    with pytest.raises(ValueError, match="none of the 2 images of the train"):
        _dataset(train=_part("ab", images="", labels="ab"))
    with pytest.raises(ValueError, match="none of the 2 train images has a ma"):
        _dataset(train=_part("ab", labels="x"))
    part = _part("", labels="", size=7, optional=True)
    assert _dataset(test=part).partitions == {}
    assert "test has 0 of 7 images" in caplog.text
