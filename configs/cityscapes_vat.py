# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, virtual adversarial training with settings of French et al.

    python -m launch.train --config=configs/cityscapes_vat.py \
        --workdir=runs/cityscapes_vat

Data, network, labels and training are those of `cityscapes_french_supervised`;
the same arguments. The paper has it on other data sets alone; the weight is
that of VOC. Ours: not yet run.
"""

from configs import cityscapes_french_supervised, consistency


def get_config(arg=""):
    config = cityscapes_french_supervised.get_config(arg)
    config.method = consistency.get("vat")
    return config
