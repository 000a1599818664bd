# SPDX-License-Identifier: Apache-2.0
r"""Converts published weights: python -m launch.convert_weights --from=FILE ...

Weights of an encoder become a file for config.network.weights:

    python -m launch.convert_weights --from=resnet50_v1c.pth \
        --to=weights/resnet50_v1c.weights.h5 \
        --config=configs/folder_cutmix.py:network=deeplab_v3_plus

A whole network of CPS, CCT or CAC becomes a workdir at step 0, for
launch.evaluate, launch.predict and launch.export, or for launch.train with the
same config, which then starts from it:

    python -m launch.convert_weights --part=network --from=epoch-last.pth \
        --to=runs/published \
        --config=configs/folder_cutmix.py:dir=PATH,network=deeplab_v3_plus

Prints which name in the file became which variable.
"""

from absl import flags

from launch import config_flag, entry

_CONFIG = config_flag.define()
_FROM = flags.DEFINE_string(
    "from",
    None,
    "File of PyTorch (.pth, .pt), safetensors or keras.applications (.h5); or "
    "imagenet.",
)
_TO = flags.DEFINE_string("to", None, "File (encoder) or workdir to write.")
_PART = flags.DEFINE_enum(
    "part", "encoder", ["encoder", "network"], "What to convert."
)
_BRANCH = flags.DEFINE_enum(
    "branch",
    "branch1",
    ["branch1", "branch2"],
    "Which of the two networks in a file of CPS; the first is evaluated.",
)
_PARTIAL = flags.DEFINE_bool(
    "partial", False, "Take what fits; the rest stays as it is initialized."
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace the weights, or the run, at --to."
)
flags.declare_key_flag("config")
flags.mark_flags_as_required(["config", "from", "to"])


def main(argv):
    del argv
    # Imported late, so that a wrong flag is answered at once.
    from tfseg import convert

    fit = convert.convert(
        _CONFIG.value,
        _FROM.value,
        _TO.value,
        part=_PART.value,
        branch=_BRANCH.value,
        partial=_PARTIAL.value,
        overwrite=_OVERWRITE.value,
    )
    print(fit.table())
    use = "--workdir" if _PART.value == "network" else "config.network.weights"
    print(f"Written: {_TO.value}, for {use}")


if __name__ == "__main__":
    entry.run(main, flags_parser=config_flag.parse)
