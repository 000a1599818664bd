# SPDX-License-Identifier: Apache-2.0
"""ISIC 2017, virtual adversarial training with settings of French et al.

    python -m launch.train --config=configs/isic_vat.py \
        --workdir=runs/isic_vat

Data, network, labels and training are those of `isic_supervised`; the same
arguments. Weight 0.1: supplement D.4.2 (their script: 0.001). Published, 50
labels, notebook of the repository: 69.09 % mean IoU. Ours: not yet run.
"""

from configs import consistency, isic_supervised


def get_config(arg=""):
    config = isic_supervised.get_config(arg)
    config.method = consistency.get("vat")
    config.method.unsup_weight = 0.1
    return config
