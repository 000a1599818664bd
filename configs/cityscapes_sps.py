# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, single-network pseudo supervision: Chen et al. 2021.

    python -m launch.train --config=configs/cityscapes_sps.py:dir=PATH \
        --workdir=runs/cityscapes_sps

Data, network, labels and training are those of `cityscapes_supervised`; the
same arguments. Labeled pixels by OHEM; weight 6. The paper does not report it.
Ours: not yet run.
"""

from configs import cityscapes_supervised, cross_supervision


def get_config(arg=""):
    config = cityscapes_supervised.get_config(arg)
    config.method = cross_supervision.get("sps")
    config.method.unsup_weight = 6.0
    config.method.supervised = "ohem"
    return config
