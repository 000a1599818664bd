# SPDX-License-Identifier: Apache-2.0
"""Looks for what is wrong with a data set, before training.

    python -m launch.inspect --dir=PATH
    python -m launch.inspect --config=configs/folder_cutmix.py:dir=PATH

Prints what it finds, the most serious first, each with file, value and fix;
writes inspection.json and inspection.html, those of further data sets into a
folder of their name. Exit code 1 if there are errors: what training refuses.
Warnings and notes leave it at 0.
"""

import os
import sys

from absl import flags

from launch import config_flag, entry
from tfseg import config as config_lib

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
    configs = config_lib.domain_configs(_config())
    # Imported late, so that a wrong flag is answered at once.
    from tfseg import inspection

    # Names of files may be no UTF-8, or the terminal may be none.
    sys.stdout.reconfigure(errors="backslashreplace")
    errors = 0
    for number, (name, config) in enumerate(configs.items()):
        out = os.path.join(_OUT.value, name) if number else _OUT.value
        report = inspection.inspect(config, out)
        if len(configs) > 1:
            print(f"{name}:")
        print(inspection.text(report))
        print(f"Written: {out}/inspection.html and .json")
        errors += report["counts"]["error"]
    return 1 if errors else 0


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
