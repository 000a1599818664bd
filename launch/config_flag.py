# SPDX-License-Identifier: Apache-2.0
"""The `--config` flag, with an answer to a wrong file, key or value."""

from absl import flags
from ml_collections import config_flags

from tfseg import config as config_lib
from tfseg import lookup

_HELP = (
    "File of a config and its argument, --config=configs/x.py:name=value; "
    "override a field with --config.train.steps=2000."
)


def define():
    """Defines `--config` (required, locked)."""
    return config_flags.DEFINE_config_file("config", None, _HELP)


def parse(argv):
    """Flags parser for absl.app.run.

    Raises:
      flags.Error: an unknown field, with the choices.
      ValueError: the config file does not load.
    """
    try:
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        raise flags.Error(_unknown_field(argv)) from error
    # A config that failed to load raises only when it is looked at.
    flags.FLAGS["config"].value.to_dict()
    return rest


def _unknown_field(argv):
    """Says which override names no field, and what fields there are."""
    # The part of the command line that gives the file parses on its own.
    files = [word for word in argv[1:] if word.startswith("--config=")]
    flags.FLAGS.unparse_flags()
    flags.FLAGS([argv[0], *files], known_only=True)
    fields = list(config_lib.flatten(flags.FLAGS["config"].value))
    for word in argv[1:]:
        name = word.removeprefix("--config.").partition("=")[0]
        if word.startswith("--config.") and name not in fields:
            return (
                f"Unknown field `config.{name}`."
                f"{lookup.suggestion(name, fields)} Available: "
                f"{', '.join(fields)}."
            )
    return "The overrides of --config could not be read."
