# SPDX-License-Identifier: Apache-2.0
r"""Runs a study: what a paper says of data, seen on data.

    python -m launch.analyze --study=toy2d --workdir=runs/toy2d
    python -m launch.analyze --study=patch_distance --workdir=runs/patches \
        --images=FOLDER
    python -m launch.analyze --study=patch_distance --workdir=runs/patches \
        --config=configs/digits_supervised.py:dir=data/digits
    python -m launch.analyze --study=overlap --workdir=runs/overlap \
        --runs=runs/digits_cps,runs/digits_cps_cutmix

Prints what it finds; writes STUDY.json and pictures to the workdir.
"""

import os

from absl import flags

from launch import config_flag, entry
from tfseg import lookup

_STUDY = flags.DEFINE_string(
    "study",
    None,
    "What to look at: toy2d, patch_distance, overlap.",
    required=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of results; it is made.", required=True
)
_CONFIG = config_flag.define()
flags.declare_key_flag("config")
_OPTIONS = (
    flags.DEFINE_integer("seed", None, "Of what is random.", lower_bound=0),
    flags.DEFINE_integer("steps", None, "Training steps.", lower_bound=1),
    flags.DEFINE_string(
        "images", None, "Image, folder (with its sub-folders) or pattern."
    ),
    _CONFIG,
    flags.DEFINE_list("runs", None, "Workdirs of launch.train."),
    flags.DEFINE_integer(
        "patch", None, "Odd side of the patches, pixels.", lower_bound=1
    ),
    flags.DEFINE_integer(
        "triplets", None, "Anchors to draw from labeled images.", lower_bound=1
    ),
    flags.DEFINE_integer(
        "max_images", None, "The most images to look at.", lower_bound=1
    ),
)


def _options(study):
    """The keyword arguments of a study's `run`, from the flags."""
    given = {flag.name: flag.value for flag in _OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    known = lookup.options(study.run)
    for name in given:
        if name not in known:
            taken = ", ".join(f"--{x}" for x in known if x != "workdir")
            raise ValueError(
                f"--study={_STUDY.value} takes no --{name}. It takes: {taken}."
            )
    return given


def main(argv):
    del argv
    study = lookup.module("studies", _STUDY.value)
    options = _options(study)
    os.makedirs(_WORKDIR.value, exist_ok=True)
    print(study.text(study.run(workdir=_WORKDIR.value, **options)))
    print(f"Written: {_WORKDIR.value}/{_STUDY.value}.json and pictures")


if __name__ == "__main__":
    entry.run(main, flags_parser=config_flag.parse)
