# SPDX-License-Identifier: Apache-2.0
"""Trains and tests several configs with several seeds, and prints a table.

    python -m launch.prepare --dataset=digits --dir=data/digits
    python -m launch.compare --workdir=runs/family \
        --configs=configs/digits_supervised.py,configs/digits_cutmix.py \
        --seeds=0,1,2

A run is in <workdir>/<config>/<seed>, a workdir of launch.train. A config may
have an argument of its own, FILE:name=value; its runs are in <config>-<value>.
Stopped, the same command goes on. The table has the mean and the standard
deviation of the mIoU over the seeds, on the validation images and, with the
weights that are best there, on the test images; the last column is the
difference to the first config, seed by seed. comparison.json has all numbers.
"""

import importlib.util
import os

from absl import flags

from launch import entry

_CONFIGS = flags.DEFINE_list(
    "configs",
    None,
    "Files, FILE or FILE:name=value, the one to compare with first.",
    required=True,
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the runs.")
_ARG = flags.DEFINE_string(
    "arg", "", "Argument of every config, for example labels=40,steps=500."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder.", required=True)


def main(argv):
    del argv
    configs = {}
    for text in _CONFIGS.value:
        path, _, own = text.partition(":")
        name = os.path.splitext(os.path.basename(path))[0]
        if not os.path.isfile(path) or not path.endswith(".py"):
            raise ValueError(f"{path}: no such config file (NAME.py).")
        row = f"{name}-{own.partition('=')[2]}" if own else name
        if row in configs:
            raise ValueError(
                f"`--configs`: {text} and one before it would both be the "
                f"row {row}. Fix: copy one to a file of another name."
            )
        configs[row] = _config(path, name, own)
        configs[row](0)
    seeds = _seeds()
    # Imported late, so that a wrong flag is answered at once.
    from tfseg import compare

    results = compare.compare(configs, seeds, _WORKDIR.value)
    print(compare.table(results))


def _seeds():
    words = _SEEDS.value
    seeds = {int(word) for word in words if word.isdecimal()}
    if not words or len(seeds) < len(words):
        raise ValueError(
            "`--seeds` must be whole numbers, no two the same. Received: "
            f"{','.join(words)}."
        )
    return [int(word) for word in words]


def _config(path, name, own):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = [word for word in (_ARG.value, own) if word]
    return lambda seed: module.get_config(
        ",".join([*arguments, f"seed={seed}"])
    )


if __name__ == "__main__":
    entry.run(main)
