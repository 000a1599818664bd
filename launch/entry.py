# SPDX-License-Identifier: Apache-2.0
"""Runs a main(): mistakes of the user end in one message, not a traceback."""

import os
import sys
import warnings

# Before TensorFlow is imported: its start-up lines speak of plugins that it
# registers twice. What goes wrong later comes as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", module="tensorflow_addons")

from absl import app, flags, logging  # noqa: E402

# What tfseg raises where the user can do something about it.
_MISTAKES = (ValueError, OSError, FloatingPointError)


def run(main, flags_parser=None):
    """Runs `main(argv)` and exits: 0 done, 1 anything else.

    Messages of level INFO are shown unless --verbosity says otherwise. Words
    that are no flags are refused: one that is lost means another command.

    Args:
      main: function of argv.
      flags_parser: for absl.app.run, where flags need more than absl does.
    """
    options = {"flags_parser": flags_parser} if flags_parser else {}

    def main_of_flags(argv):
        if len(argv) > 1:
            raise app.UsageError(
                f"Unexpected words: {' '.join(argv[1:])}. Fix: write "
                "--flag=value, and quotes around a pattern such as '*.jpg'."
            )
        return main(argv)

    try:
        app.run(main_of_flags, **options)
    except _MISTAKES as error:
        # A wrong flag: without this, absl warns of its own message.
        flags.FLAGS.mark_as_parsed()
        logging.debug("where it came from:", exc_info=True)
        logging.error("%s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        logging.error("interrupted")
        sys.exit(1)
