# SPDX-License-Identifier: Apache-2.0
"""Makes labels of pixels from the classes that images are known to show.

python -m launch.pseudo_labels --config=configs/digits_cam.py --workdir=FOLDER

Trains a classifier of images, as launch.train does, and labels the images of
which the classes are known by its class activation maps: FOLDER/pseudo_labels
has labels/ID.png (255 = no label) and confidences/ID.png. Stopped, the same
command goes on. A method with a `weak_weight` learns from them:

    python -m launch.train --config=configs/digits_cct_weak.py \
        --config.data.pseudo_labels=FOLDER/pseudo_labels --workdir=...
"""

import math
import os

from absl import flags

from launch import config_flag, entry

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the classifier's run."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the labels. Default: WORKDIR/pseudo_labels."
)
_SCALES = flags.DEFINE_list(
    "scales",
    ["1", "0.5", "1.5", "2"],
    "Sizes, relative to the image, at which the classifier looks at it and "
    "at its mirror image.",
)
_FOREGROUND = flags.DEFINE_float(
    "foreground",
    0.3,
    "A pixel has the class of its highest map if that is above it; maps have "
    "a maximum of 1.",
    lower_bound=0.0,
    upper_bound=1.0,
)
_BACKGROUND = flags.DEFINE_float(
    "background",
    0.05,
    "A pixel is background if no map is above it; between, it has no label.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.declare_key_flag("config")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
    del argv
    if _BACKGROUND.value > _FOREGROUND.value:
        raise ValueError(
            "--background must not be above --foreground. Received: "
            f"{_BACKGROUND.value} and {_FOREGROUND.value}."
        )
    scales = [float(scale) for scale in _SCALES.value]
    if not scales or not all(0 < s < math.inf for s in scales):
        raise ValueError(
            f"--scales must be positive and finite. Received: {scales}."
        )
    # Imported late, so that a wrong flag is answered at once.
    from tfseg import weak_labels

    weak_labels.write(
        _CONFIG.value,
        _WORKDIR.value,
        _OUTPUT.value or os.path.join(_WORKDIR.value, "pseudo_labels"),
        scales=scales,
        foreground=_FOREGROUND.value,
        background=_BACKGROUND.value,
    )


if __name__ == "__main__":
    entry.run(main, flags_parser=config_flag.parse)
