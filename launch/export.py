# SPDX-License-Identifier: Apache-2.0
"""Exports a trained run as a SavedModel: python -m launch.export --workdir=...

The SavedModel holds the deployed network, its classes and palette, and needs
no tfseg where it is loaded.
"""

import os

from absl import flags

from launch import entry, run_flags

_OUT = flags.DEFINE_string(
    "out", None, "Folder to write. Default: export in the workdir."
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace a SavedModel that is there already."
)
flags.adopt_module_key_flags(run_flags)


def main(argv):
    del argv
    # Not at the top: --help should not wait for TensorFlow.
    from tfseg import export, runs

    run = runs.load(
        run_flags.WORKDIR.value,
        run_flags.CHECKPOINT.value,
        run_flags.NETWORK.value,
    )
    out = _OUT.value or os.path.join(run_flags.WORKDIR.value, "export")
    export.export(run.network, run.info, out, overwrite=_OVERWRITE.value)
    print(f"Step {run.step} of {run_flags.WORKDIR.value} is now in {out}")


if __name__ == "__main__":
    entry.run(main)
