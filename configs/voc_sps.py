# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, single-network pseudo supervision: Chen et al. 2021.

    python -m launch.train --config=configs/voc_sps.py:dir=VOCDEVKIT \
        --workdir=runs/voc_sps

Data, network, labels and training are those of `voc_supervised`; the same
arguments. Published with ResNet-50 at 1/16, 1/8, 1/4, 1/2 of the labels:
59.54, 69.05, 72.55, 75.17 % mIoU. Ours: not yet run.
"""

from configs import cross_supervision, voc_supervised


def get_config(arg=""):
    config = voc_supervised.get_config(arg)
    config.method = cross_supervision.get("sps")
    return config
