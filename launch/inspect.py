# SPDX-License-Identifier: Apache-2.0
"""Looks for what is wrong with a data set, before training.

    python -m launch.inspect --dir=PATH
    python -m launch.inspect --config=configs/folder_cutmix.py:dir=PATH

Prints what it finds, the most serious first, each with file, value and fix;
writes inspection.json and inspection.html. Exit code 1 if there are errors:
what training refuses. Warnings and notes leave it at 0.
"""

import sys

from absl import flags

from launch import config_flag, entry

_CONFIG = config_flag.define()
_DIR = flags.DEFINE_string(
    "dir",
    None,
    "Folder of images/ and labels/: short for "
    "--config=configs/folder_cutmix.py:dir=PATH.",
)
_OUT = flags.DEFINE_string(
    "out", "inspection", "Folder to write; older files in it are replaced."
)
flags.declare_key_flag("config")


def main(argv):
    del argv
    config = _config()
    # Imported late, so that a wrong flag is answered at once.
    from tfseg import inspection

    report = inspection.inspect(config, _OUT.value)
    # Names of files may be no UTF-8, or the terminal may be none.
    sys.stdout.reconfigure(errors="backslashreplace")
    print(inspection.text(report))
    print(f"Written: {_OUT.value}/inspection.html and .json")
    return 1 if report["counts"]["error"] else 0


def _config():
    if (_CONFIG.value is None) == (_DIR.value is None):
        raise ValueError("Give one of --dir=PATH and --config=FILE.")
    if _CONFIG.value is not None:
        return _CONFIG.value
    from configs import folder_cutmix

    config = folder_cutmix.get_config()
    # Not in its argument: a path may hold a comma.
    config.dataset.dir = _DIR.value
    return config


if __name__ == "__main__":
    entry.run(main, flags_parser=config_flag.parse)
