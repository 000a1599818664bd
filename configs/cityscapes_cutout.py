# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, Cutout mean teacher with settings of French et al.

    python -m launch.train --config=configs/cityscapes_cutout.py \
        --workdir=runs/cityscapes_cutout

Data, network, labels and training are those of `cityscapes_french_supervised`;
the same arguments. Published with DeepLab v2 from ImageNet, notebook of the
repository, at 100, 372, 744 labels and all: 47.21, 57.72, 61.96, 67.47 % mIoU.
Ours: not yet run.
"""

from configs import cityscapes_french_supervised, consistency


def get_config(arg=""):
    config = cityscapes_french_supervised.get_config(arg)
    config.method = consistency.get("cutout")
    return config
