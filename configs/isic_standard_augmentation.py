# SPDX-License-Identifier: Apache-2.0
"""ISIC 2017, affine augmentation consistency with settings of French et al.

    python -m launch.train --config=configs/isic_standard_augmentation.py \
        --workdir=runs/isic_standard_augmentation

Data, network, labels and training are those of `isic_supervised`; the same
arguments. Weight 0.1: supplement D.4.2. Both views are scaled, rotated and
flipped on their own, as D.4.2 says; their script shares scale and rotation
(pair_teacher=shared). Published, 50 labels, notebook of the repository: 71.40
% mean IoU. Ours: not yet run.
"""

from configs import consistency, isic_supervised


def get_config(arg=""):
    config = isic_supervised.get_config(arg)
    config.method = consistency.get("standard_augmentation")
    config.method.unsup_weight = 0.1
    config.data.pair_teacher = "free"
    return config
