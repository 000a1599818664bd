# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, interpolation consistency training as French et al.

    python -m launch.train --config=configs/voc_ict.py:dir=VOCDEVKIT \
        --workdir=runs/voc_ict

Data, network, labels and training are those of `voc_french_supervised`; the
same arguments. The student sees 10 blended images, so 20 are read. Weight:
supplement D.4.1; their later script has 1, with changed colors. Ours: not yet
run.
"""

from configs import consistency, voc_french_supervised


def get_config(arg=""):
    config = voc_french_supervised.get_config(arg)
    config.method = consistency.get("ict")
    config.train.unlabeled_batch = 20
    return config
