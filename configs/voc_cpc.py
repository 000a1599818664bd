# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, cross probability consistency: Chen et al. 2021.

    python -m launch.train --config=configs/voc_cpc.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cpc

Data, network, labels and training are those of `voc_supervised`; the same
arguments, and `second`: the name of another network in configs/networks.py, ""
= the same. Published with ResNet-50 at 1/8 of the labels: 71.23 % mIoU. Ours:
not yet run.
"""

from configs import cross_supervision, voc_supervised


def get_config(arg=""):
    config = voc_supervised.get_config(arg)
    config.method = cross_supervision.get("cpc")
    return config
