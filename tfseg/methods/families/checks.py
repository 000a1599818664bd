# SPDX-License-Identifier: Apache-2.0
"""Refuses wrong options of methods, by the name that the user knows."""


def choice(name, value, choices):
    """Raises ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(
            f"`config.method.{name}` must be one of {', '.join(choices)}. "
            f"Received: {value!r}."
        )


def rate(name, value):
    """Raises ValueError unless the value is in [0, 1]."""
    _check(0 <= value <= 1, name, value, "in [0, 1]")


def not_negative(name, value):
    """Raises ValueError for a number below 0, and for NaN."""
    _check(value >= 0, name, value, "0 or more")


def positive(name, value):
    """Raises ValueError for 0, a number below it, and NaN."""
    _check(value > 0, name, value, "positive")


def _check(passed, name, value, rule):
    if not passed:
        raise ValueError(
            f"`config.method.{name}` must be {rule}. Received: {value}."
        )
