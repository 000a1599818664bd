# SPDX-License-Identifier: Apache-2.0
"""Your own folder, with the CutMix mean teacher on images without masks.

    python -m launch.train --config=configs/folder_cutmix.py:dir=PATH \
        --workdir=runs/mine

Arguments: those of `folder_supervised`. The student's view of the unlabeled
images has changed colors, as in the color augmentation follow-up of French et
al.; set config.data.jitter_rate and config.data.gray_rate to 0 for the paper.

Not yet run on real photographs.
"""

from configs import consistency, folder_supervised


def get_config(arg=""):
    config = folder_supervised.get_config(arg)
    config.method = consistency.get("cutmix")
    config.data.jitter_rate = 0.8
    config.data.gray_rate = 0.2
    return config
