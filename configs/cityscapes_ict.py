# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, interpolation consistency training as French et al.

    python -m launch.train --config=configs/cityscapes_ict.py \
        --workdir=runs/cityscapes_ict

Data, network, labels and training are those of `cityscapes_french_supervised`;
the same arguments. The student sees 4 blended images, so 8 are read. The paper
has it on other data sets alone; the weight is that of VOC. Ours: not yet run.
"""

from configs import cityscapes_french_supervised, consistency


def get_config(arg=""):
    config = cityscapes_french_supervised.get_config(arg)
    config.method = consistency.get("ict")
    config.train.unlabeled_batch = 8
    return config
