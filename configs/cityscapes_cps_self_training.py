# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, CPS and self-training: Chen et al. 2021, Table 7.

    python -m launch.train \
        --config=configs/cityscapes_cps_self_training.py:dir=PATH \
        --workdir=runs/cityscapes_cps_self_training

The teacher is that of `cityscapes_cps`, the network that learns its labels
that of `cityscapes_self_training`; the same arguments. Published with
ResNet-50 at 1/4, 1/2 of the labels: 77.40, 79.25 % mIoU. Ours: not yet run.
"""

from configs import cityscapes_cps, cityscapes_self_training


def get_config(arg=""):
    config = cityscapes_self_training.get_config(arg)
    config.method.teacher = cityscapes_cps.get_config(arg).method
    return config
