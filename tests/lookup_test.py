# SPDX-License-Identifier: Apache-2.0
import pytest

from tfseg import lookup


def test_every_leaf_has_an_entry_point():
    entry = {
        "methods": "build",
        "networks": "build",
        "datasets": "build",
        "data.views": "view",
    }
    for kind, function in entry.items():
        names = lookup.names(kind)
        assert names and "base" not in names
        for name in names:
            assert hasattr(lookup.module(kind, name), function)


def test_unknown_name_lists_the_choices_and_the_closest():
    with pytest.raises(ValueError) as error:
        lookup.module("methods", "mean_teecher")
    assert "Did you mean 'mean_teacher'?" in str(error.value)
    assert "supervised" in str(error.value)


def _options(required, *, threshold, decay=0.99):
    del required, threshold, decay


def test_wrong_options_are_named():
    lookup.check_arguments(_options, {"threshold"}, "config.method")
    with pytest.raises(ValueError, match=r"`config.method.treshold`.*mean"):
        lookup.check_arguments(
            _options, {"treshold", "threshold"}, "config.method"
        )
    with pytest.raises(ValueError, match="`config.method.threshold` is miss"):
        lookup.check_arguments(_options, {"decay"}, "config.method")
