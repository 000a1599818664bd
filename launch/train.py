# SPDX-License-Identifier: Apache-2.0
"""Trains a network, or resumes a run that was interrupted.

python -m launch.train --config=FILE[:name=value,...] --workdir=FOLDER

Run the same command again after an interruption, and training goes on from
the last checkpoint with the very batches that it would have seen.
"""

from absl import flags

from launch import config_flag, entry

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints, curves, summary.json."
)
flags.declare_key_flag("config")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
    del argv
    # Imported late, so that a wrong flag is answered at once.
    from tfseg import train

    train.train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    entry.run(main, flags_parser=config_flag.parse)
