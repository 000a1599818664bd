# SPDX-License-Identifier: Apache-2.0
"""Writes a data set to disk: python -m launch.prepare --dataset=digits ...

Safe to repeat: a data set that is complete is left as it is.
"""

from absl import app, flags, logging

from launch import entry
from tfseg import lookup

_DATASET = flags.DEFINE_string(
    "dataset", "digits", "Name of the data set: a module of tfseg.datasets."
)
_DIR = flags.DEFINE_string("dir", None, "Folder to write, data/digits.")
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed; the same seed writes the same bytes.", lower_bound=0
)
flags.mark_flag_as_required("dir")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected words: {' '.join(argv[1:])}")
    leaf = lookup.module("datasets", _DATASET.value)
    if not hasattr(leaf, "prepare"):
        raise ValueError(
            f"`--dataset={_DATASET.value}` has nothing to prepare. Fix: name "
            "its folder in `config.dataset.dir`."
        )
    leaf.prepare(dir=_DIR.value, seed=_SEED.value)
    logging.info("%s is ready in %s", _DATASET.value, _DIR.value)


if __name__ == "__main__":
    entry.run(main)
