# SPDX-License-Identifier: Apache-2.0
"""ISIC 2017, interpolation consistency training with settings of French et al.

    python -m launch.train --config=configs/isic_ict.py \
        --workdir=runs/isic_ict

Data, network, labels and training are those of `isic_supervised`; the same
arguments. The student sees 10 blended images, so 20 are read. Weight 3e-4: the
authors' script; the paper gives none. Published, 50 labels, notebook of the
repository: 65.45 % mean IoU. Ours: not yet run.
"""

from configs import consistency, isic_supervised


def get_config(arg=""):
    config = isic_supervised.get_config(arg)
    config.method = consistency.get("ict")
    config.method.unsup_weight = 3e-4
    config.train.unlabeled_batch = 20
    return config
