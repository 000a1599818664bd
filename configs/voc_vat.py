# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, virtual adversarial training with settings of French et al.

    python -m launch.train --config=configs/voc_vat.py:dir=VOCDEVKIT \
        --workdir=runs/voc_vat

Data, network, labels and training are those of `voc_french_supervised`; the
same arguments. Ours: not yet run.
"""

from configs import consistency, voc_french_supervised


def get_config(arg=""):
    config = voc_french_supervised.get_config(arg)
    config.method = consistency.get("vat")
    return config
