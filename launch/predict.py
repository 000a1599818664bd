# SPDX-License-Identifier: Apache-2.0
"""Segments images: python -m launch.predict --workdir=W --input=I --output=O

For each image it writes, below the output folder, NAME.png (class of each
pixel, with the palette), NAME_overlay.png (colors over the image) and
NAME_confidence.png (largest probability, white = 1). An image that cannot be
read is left out and listed at the end; the exit code is 1 then.
"""

from absl import flags

from launch import entry, inference_flags, run_flags

_INPUT = flags.DEFINE_string(
    "input",
    None,
    "An image, a folder (with its sub-folders), or a pattern in quotes: "
    "'photos/**/*.jpg'.",
    required=True,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write to.", required=True
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace files that exist already."
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels",
    None,
    "An image of more pixels (height times width) is refused. Default: "
    "config.data.max_pixels of the run.",
    lower_bound=1,
)
flags.adopt_module_key_flags(run_flags)
flags.adopt_module_key_flags(inference_flags)


def main(argv):
    del argv
    # Not at the top: --help should not wait for TensorFlow.
    from tfseg import predict

    failures = predict.predict_files(
        run_flags.WORKDIR.value,
        input=_INPUT.value,
        output=_OUTPUT.value,
        checkpoint=run_flags.CHECKPOINT.value,
        network=run_flags.NETWORK.value,
        overwrite=_OVERWRITE.value,
        max_pixels=_MAX_PIXELS.value,
        **inference_flags.options(),
    )
    if failures:
        print(f"Left out ({len(failures)}):")
        for path, reason in failures:
            print(f"  {path}: {reason}")
    return 1 if failures else 0


if __name__ == "__main__":
    entry.run(main)
