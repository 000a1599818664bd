# SPDX-License-Identifier: Apache-2.0
"""Writes a data set to disk: python -m launch.prepare --dataset=digits ...

digits      the embedded data set: --dir
voc         masks of the augmented list into --dir=VOC2012, from
            --source=benchmark_RELEASE of SBD
cityscapes  a copy of --source at half resolution
isic        a copy of --source at 248 x 248 pixels
tfds:NAME   a builder of TensorFlow Datasets as a folder; --source is its
            data_dir, "" = the default

Safe to repeat: an interrupted run goes on, and a data set that is complete is
left as it is. The other data sets are read as they are unpacked.
"""

from absl import app, flags, logging

from launch import entry
from tfseg import lookup

_DATASET = flags.DEFINE_string(
    "dataset", "digits", "Name of the data set: a module of tfseg.datasets."
)
_DIR = flags.DEFINE_string("dir", None, "Folder to write, data/digits.")
_SOURCE = flags.DEFINE_string(
    "source", "", "Folder of what was downloaded, where a data set needs one."
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed; the same seed writes the same bytes.", lower_bound=0
)
flags.mark_flag_as_required("dir")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected words: {' '.join(argv[1:])}")
    name, colon, builder = _DATASET.value.partition(":")
    leaf = lookup.module("datasets", name)
    if not hasattr(leaf, "prepare"):
        raise ValueError(
            f"`--dataset={name}` has nothing to prepare. Fix: name "
            "its folder in `config.dataset.dir`."
        )
    options = {"dir": _DIR.value}
    taken = lookup.options(leaf.prepare)
    if "builder" in taken:
        options["builder"] = builder
    elif colon:
        raise ValueError(
            f"`--dataset={_DATASET.value}`: {name} takes nothing after a "
            f"colon. Fix: --dataset={name}"
        )
    for flag in (_SOURCE, _SEED):
        if flag.name in taken:
            options[flag.name] = flag.value
        elif flag.present:
            raise ValueError(
                f"`--dataset={name}` takes no --{flag.name}. Fix: leave it "
                "out."
            )
    leaf.prepare(**options)
    logging.info("%s is ready in %s", _DATASET.value, _DIR.value)


if __name__ == "__main__":
    entry.run(main)
