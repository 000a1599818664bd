# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, single-network pseudo supervision with CutMix: Chen et al. 2021.

    python -m launch.train --config=configs/cityscapes_sps_cutmix.py:dir=PATH \
        --workdir=runs/cityscapes_sps_cutmix

Data, network, labels and training are those of `cityscapes_supervised`; the
same arguments. A network sees 8 mixed images, so 16 are read. Labeled pixels
by OHEM; weight 6. The paper does not report it. Ours: not yet run.
"""

from configs import cityscapes_supervised, cross_supervision


def get_config(arg=""):
    config = cityscapes_supervised.get_config(arg)
    config.method = cross_supervision.get("sps_cutmix")
    config.method.unsup_weight = 6.0
    config.method.supervised = "ohem"
    config.train.unlabeled_batch = 16
    return config
