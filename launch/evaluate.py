# SPDX-License-Identifier: Apache-2.0
"""Evaluates a trained run: python -m launch.evaluate --workdir=runs/mine

Writes evaluation.json and prints the IoU of each class.
"""

from absl import flags

from launch import entry, inference_flags, run_flags

_SPLIT = flags.DEFINE_enum(
    "split", "validation", ["validation", "test"], "Images to evaluate on."
)
_ABSENT = flags.DEFINE_enum(
    "absent",
    None,
    ["nan", "zero"],
    "What the mean does with a class that is neither there nor predicted: "
    "nan leaves it out, zero counts it as 0. Default: config.evaluate.absent "
    "of the run.",
)
_OUT = flags.DEFINE_string(
    "out", None, "File to write. Default: evaluation.json in the workdir."
)
flags.adopt_module_key_flags(run_flags)
flags.adopt_module_key_flags(inference_flags)


def main(argv):
    del argv
    # Not at the top: --help should not wait for TensorFlow.
    from tfseg import evaluate

    result = evaluate.evaluate_run(
        run_flags.WORKDIR.value,
        checkpoint=run_flags.CHECKPOINT.value,
        network=run_flags.NETWORK.value,
        split=_SPLIT.value,
        absent=_ABSENT.value,
        out=_OUT.value,
        **inference_flags.options(),
    )
    print(evaluate.table(result))


if __name__ == "__main__":
    entry.run(main)
