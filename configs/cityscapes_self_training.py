# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, self-training: Chen et al. 2021, Table 7.

    python -m launch.train \
        --config=configs/cityscapes_self_training.py:dir=PATH \
        --workdir=runs/cityscapes_self_training

Data, network, labels and training are those of `cityscapes_supervised`, once
for the teacher and once again for the network that learns its labels, here
with OHEM on the true ones; the same arguments. Published with ResNet-50 at
1/4, 1/2 of the labels: 75.88, 77.64 % mIoU. Ours: not yet run.
"""

from configs import cityscapes_supervised, cross_supervision


def get_config(arg=""):
    config = cityscapes_supervised.get_config(arg)
    config.method = cross_supervision.get("self_training")
    config.method.supervised = "ohem"
    return config
