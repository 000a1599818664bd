# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, cross pseudo supervision with CutMix: Chen et al. 2021.

    python -m launch.train --config=configs/cityscapes_cps_cutmix.py:dir=PATH \
        --workdir=runs/cityscapes_cps_cutmix

Data, network, labels and training are those of `cityscapes_supervised`; the
same arguments, and `second`: the name of another network in
configs/networks.py, "" = the same. A network sees 8 mixed images, so 16 are
read. Labeled pixels by OHEM; weight 6. The official code has weight 5 here:
--config.method.unsup_weight=5. Published with ResNet-50 at 1/16, 1/8, 1/4, 1/2
of the labels: 74.47, 76.61, 77.83, 78.77 % mIoU. Ours: not yet run.
"""

from configs import cityscapes_supervised, cross_supervision


def get_config(arg=""):
    config = cityscapes_supervised.get_config(arg)
    config.method = cross_supervision.get("cps_cutmix")
    config.method.unsup_weight = 6.0
    config.method.supervised = "ohem"
    # Every class is one of things to see.
    config.method.background = -1
    config.train.unlabeled_batch = 16
    return config
