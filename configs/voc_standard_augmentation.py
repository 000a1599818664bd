# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, affine augmentation consistency as French et al.

    python -m launch.train --workdir=runs/voc_standard_augmentation \
        --config=configs/voc_standard_augmentation.py:dir=VOCDEVKIT

Data, network, labels and training are those of `voc_french_supervised`; the
same arguments. Weight: supplement D.4.1; their later script has 1, with
changed colors. Ours: not yet run.
"""

from configs import consistency, voc_french_supervised


def get_config(arg=""):
    config = voc_french_supervised.get_config(arg)
    config.method = consistency.get("standard_augmentation")
    return config
