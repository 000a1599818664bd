# SPDX-License-Identifier: Apache-2.0
"""Exports a trained run as a SavedModel: python -m launch.export --workdir=...

The SavedModel holds the deployed network, its classes and palette, and needs
no tfseg where it is loaded.
"""

import os

from absl import flags

from launch import entry

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder that launch.train wrote.", required=True
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "best",
    "best (by validation mIoU), last, or the path of a checkpoint without "
    "its .index.",
)
_OUT = flags.DEFINE_string(
    "out", None, "Folder to write. Default: export in the workdir."
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace the folder if it exists."
)


def main(argv):
    del argv
    # Not at the top: --help should not wait for TensorFlow.
    from tfseg import export, runs

    run = runs.load(_WORKDIR.value, _CHECKPOINT.value)
    out = _OUT.value or os.path.join(_WORKDIR.value, "export")
    export.export(run.network, run.info, out, overwrite=_OVERWRITE.value)
    print(f"Step {run.step} of {_WORKDIR.value} is now in {out}")


if __name__ == "__main__":
    entry.run(main)
