# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, single-network pseudo supervision with CutMix.

    python -m launch.train --config=configs/voc_sps_cutmix.py:dir=VOCDEVKIT \
        --workdir=runs/voc_sps_cutmix

Data, network, labels and training are those of `voc_supervised`; the same
arguments. A network sees 8 mixed images, so 16 are read. Published with
ResNet-50 at 1/16, 1/8, 1/4, 1/2 of the labels: 65.62, 71.27, 73.70, 74.87 %
mIoU. Ours: not yet run.
"""

from configs import cross_supervision, voc_supervised


def get_config(arg=""):
    config = voc_supervised.get_config(arg)
    config.method = cross_supervision.get("sps_cutmix")
    config.train.unlabeled_batch = 16
    return config
