# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, cross pseudo supervision with CutMix: Chen et al. 2021.

    python -m launch.train --config=configs/voc_cps_cutmix.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cps_cutmix

Data, network, labels and training are those of `voc_supervised`; the same
arguments, and `second`: the name of another network in configs/networks.py, ""
= the same. A network sees 8 mixed images, so 16 are read. The official code
has weight 1 here: --config.method.unsup_weight=1. Published with ResNet-50 at
1/16, 1/8, 1/4, 1/2 of the labels: 71.98, 73.67, 74.90, 76.15 % mIoU. Ours: not
yet run.
"""

from configs import cross_supervision, voc_supervised


def get_config(arg=""):
    config = voc_supervised.get_config(arg)
    config.method = cross_supervision.get("cps_cutmix")
    config.train.unlabeled_batch = 16
    return config
