# SPDX-License-Identifier: Apache-2.0
"""Flags of how a network looks at an image: evaluate and predict share them.

A script adopts them, `flags.adopt_module_key_flags(inference_flags)`, so that
its --help shows them.
"""

from absl import flags

_WINDOW = flags.DEFINE_integer(
    "window",
    None,
    "Side of the sliding window in pixels; 0 = the whole image. Default: "
    "config.evaluate.window of the run.",
    lower_bound=0,
)
_OVERLAP = flags.DEFINE_float(
    "overlap",
    None,
    "Fraction of a window that the next one covers again, 0 <= x < 1. "
    "Default: config.evaluate.overlap of the run.",
)
_SCALES = flags.DEFINE_list(
    "scales",
    ["1.0"],
    "Sizes at which the network looks at each image (or window), relative to "
    "the original: 0.75,1.0,1.25.",
)
_FLIP = flags.DEFINE_bool("flip", False, "Look at the mirrored image as well.")
_AVERAGE = flags.DEFINE_enum(
    "average",
    "probabilities",
    ["probabilities", "logits"],
    "What is averaged over scales, flips and overlapping windows.",
)


def options():
    """Arguments of `tfseg.evaluate.open_predictor`.

    Raises:
      ValueError: `--scales` has something that is not a number.
    """
    try:
        scales = tuple(float(scale) for scale in _SCALES.value)
    except ValueError:
        raise ValueError(
            "`--scales` must be numbers with commas between. "
            f"Received: --scales={','.join(_SCALES.value)}."
        ) from None
    return {
        "window": _WINDOW.value,
        "overlap": _OVERLAP.value,
        "scales": scales,
        "flip": _FLIP.value,
        "average": _AVERAGE.value,
    }
