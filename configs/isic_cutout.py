# SPDX-License-Identifier: Apache-2.0
"""ISIC 2017, Cutout mean teacher with settings of French et al.

    python -m launch.train --config=configs/isic_cutout.py \
        --workdir=runs/isic_cutout

Data, network, labels and training are those of `isic_supervised`; the same
arguments. Published, 50 labels, notebook of the repository: 68.76 % mean IoU.
Ours: not yet run.
"""

from configs import consistency, isic_supervised


def get_config(arg=""):
    config = isic_supervised.get_config(arg)
    config.method = consistency.get("cutout")
    return config
