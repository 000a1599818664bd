# SPDX-License-Identifier: Apache-2.0
r"""Writes a data set to disk: python -m launch.prepare --dataset=digits ...

digits      the embedded data set: --dir
board       the same digits on a board, even or odd: --dir
voc         masks of the augmented list into --dir=VOC2012, from
            --source=benchmark_RELEASE of SBD
cityscapes  a copy of --source at half resolution
isic        a copy of --source at 248 x 248 pixels
tfds:NAME   a builder of TensorFlow Datasets as a folder; --source is its
            data_dir, "" = the default

The other data sets are read as they are unpacked. Any data set can be turned
into few large files, which training reads with --config.data.records=OUT:

    python -m launch.prepare --records=OUT \
        --config=configs/folder_cutmix.py:dir=PATH

Safe to repeat: an interrupted run goes on, and what is complete is left as it
is.
"""

from absl import flags, logging

from launch import config_flag, entry
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
_RECORDS = flags.DEFINE_string(
    "records",
    None,
    "Folder to write the data set of --config to, as records.",
)
_SHARD_MIB = flags.DEFINE_integer(
    "shard_mib", 128, "With --records: size of a file, MiB.", lower_bound=1
)
_CONFIG = config_flag.define()
flags.declare_key_flag("config")


def main(argv):
    del argv
    if _RECORDS.value is not None:
        _write_records()
    else:
        _prepare()


def _write_records():
    if _CONFIG.value is None or _DIR.present:
        raise ValueError(
            "--records writes the data set of a config: give --config=FILE, "
            "and no --dir."
        )
    if _CONFIG.value.data.records:
        raise ValueError(
            "`config.data.records` must be empty: records are made of files. "
            f"Received: {_CONFIG.value.data.records!r}. Fix: name the folder "
            "of the files in `config.dataset.dir`."
        )
    # Imported late, so that a wrong flag is answered at once.
    from tfseg import examples, packed
    from tfseg.data import check

    config = _CONFIG.value
    dataset = examples.open_dataset(config)
    files = examples.check_files(config, dataset, check.raise_on)
    packed.write(
        config, dataset, files, _RECORDS.value, shard_mib=_SHARD_MIB.value
    )
    logging.info(
        "%d examples are in %s; train with --config.data.records=%s",
        len(files.records),
        _RECORDS.value,
        _RECORDS.value,
    )


def _prepare():
    if _DIR.value is None:
        raise ValueError("--dir is missing: give the folder to write.")
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
    entry.run(main, flags_parser=config_flag.parse)
