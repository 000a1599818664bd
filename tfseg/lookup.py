# SPDX-License-Identifier: Apache-2.0
"""Finds a leaf module by its name: `module("methods", "mean_teacher")`.

A leaf is a module that stands directly in its package and is not called
`base`. A new file is found by itself; there is no table to edit.
"""

import difflib
import importlib
import inspect
import pkgutil


def names(kind):
    """Names of the leaves of one kind, sorted.

    Args:
      kind: package below tfseg, for example "methods" or "data.views".
    """
    package = importlib.import_module(f"tfseg.{kind}")
    return sorted(
        info.name
        for info in pkgutil.iter_modules(package.__path__)
        if not info.ispkg and info.name != "base"
    )


def module(kind, name):
    """The leaf module `tfseg.<kind>.<name>`.

    Raises:
      ValueError: if there is no such leaf; lists what exists.
    """
    choices = names(kind)
    if name not in choices:
        raise ValueError(
            f"Unknown name in `{kind}`: {name!r}.{suggestion(name, choices)} "
            f"Available: {', '.join(choices)}."
        )
    return importlib.import_module(f"tfseg.{kind}.{name}")


def suggestion(name, choices):
    """' Did you mean X?' for the closest choice, else an empty string."""
    close = difflib.get_close_matches(str(name), choices, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def options(function):
    """The keyword-only parameters of a function or a class, by name.

    A class whose `__init__` hands `**options` on has those of its base too.
    """
    found = {}
    for call in _calls(function):
        parameters = inspect.signature(call).parameters
        for name, parameter in parameters.items():
            if parameter.kind == inspect.Parameter.KEYWORD_ONLY:
                found.setdefault(name, parameter)
        kinds = [parameter.kind for parameter in parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def _calls(function):
    """A function itself; of a class, the `__init__` of it and its bases."""
    if not inspect.isclass(function):
        return [function]
    inits = [vars(owner).get("__init__") for owner in function.__mro__]
    return [init for init in inits if init is not None]


def check_arguments(function, arguments, where):
    """Checks keyword arguments against a signature before calling.

    Args:
      function: callable that takes keyword-only options.
      arguments: names that the caller wants to pass.
      where: how the user calls this group, for example "config.method".

    Raises:
      ValueError: names an unknown or missing option and lists the choices.
    """
    known = options(function)
    for name in arguments:
        if name not in known:
            raise ValueError(
                f"Unknown option `{where}.{name}`."
                f"{suggestion(name, known)} Available: "
                f"{', '.join(sorted(known)) or 'none'}."
            )
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise ValueError(f"Option `{where}.{name}` is missing.")
