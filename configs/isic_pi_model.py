# SPDX-License-Identifier: Apache-2.0
"""ISIC 2017, the Pi model with settings of French et al.

    python -m launch.train --config=configs/isic_pi_model.py \
        --workdir=runs/isic_pi_model

Data, network, labels and training are those of `isic_supervised`; the same
arguments. Both views are scaled, rotated and flipped on their own, as D.4.2
says; their script shares scale and rotation (pair_teacher=shared). The paper
does not report it. Ours: not yet run.
"""

from configs import consistency, isic_supervised


def get_config(arg=""):
    config = isic_supervised.get_config(arg)
    config.method = consistency.get("pi_model")
    config.method.unsup_weight = 0.1
    config.data.pair_teacher = "free"
    return config
