# SPDX-License-Identifier: Apache-2.0
"""The `--config` flag, with an answer to a wrong file, key or value."""

from absl import app, flags
from ml_collections import config_flags
from ml_collections.config_flags import config_flags as parsers

from tfseg import config as config_lib
from tfseg import lookup

_HELP = (
    "File of a config and its argument, --config=configs/x.py:name=value; "
    "override a field with --config.train.steps=2000."
)


def define():
    """Defines `--config` (locked), which a script may mark as required."""
    return config_flags.DEFINE_config_file("config", None, _HELP)


def parse(argv):
    """Flags parser for absl.app.run.

    Raises:
      ValueError: an unknown field, with the choices, or a config file that
        does not load.
    """
    try:
        rest = app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError) as error:
        raise ValueError(_unknown_field(argv)) from error
    config = flags.FLAGS["config"].value
    if config is not None:
        # One that failed to load raises only when it is looked at.
        config.to_dict()
    return rest


def _unknown_field(argv):
    """Says which override names no field, and what fields there are."""
    paths = [w.partition("=")[2] for w in argv if w.startswith("--config=")]
    if not paths:
        return "Give --config=FILE, with an equals sign, before its fields."
    config = parsers.ConfigFileFlagParser("config").parse(paths[0])
    fields = list(config_lib.flatten(config))
    for word in argv[1:]:
        name = word.removeprefix("--config.").partition("=")[0]
        if word.startswith("--config.") and name not in fields:
            return (
                f"Unknown field `config.{name}`."
                f"{lookup.suggestion(name, fields)} Available: "
                f"{', '.join(fields)}."
            )
    return "The overrides of --config could not be read."
