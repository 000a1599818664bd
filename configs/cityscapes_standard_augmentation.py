# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, affine augmentation consistency with settings of French et al.

    python -m launch.train --workdir=runs/cityscapes_standard_augmentation \
        --config=configs/cityscapes_standard_augmentation.py

Data, network, labels and training are those of `cityscapes_french_supervised`;
the same arguments. The paper has it on other data sets alone; the weight is
that of VOC. Ours: not yet run. Views differ by a few pixels and flips, as in
the authors' code for crops without scale.
"""

from configs import cityscapes_french_supervised, consistency


def get_config(arg=""):
    config = cityscapes_french_supervised.get_config(arg)
    config.method = consistency.get("standard_augmentation")
    config.data.pair_teacher = "free"
    return config
