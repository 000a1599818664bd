# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, CPS and self-training: Chen et al. 2021, Table 7.

    python -m launch.train \
        --config=configs/voc_cps_self_training.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cps_self_training

The teacher is that of `voc_cps`, the network that learns its labels that of
`voc_self_training`; the same arguments. Published with ResNet-50 at 1/4, 1/2
of the labels: 74.96, 76.60 % mIoU. Ours: not yet run.
"""

from configs import voc_cps, voc_self_training


def get_config(arg=""):
    config = voc_self_training.get_config(arg)
    config.method.teacher = voc_cps.get_config(arg).method
    return config
