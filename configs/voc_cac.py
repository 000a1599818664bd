# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, context-aware consistency: Lai et al. 2021.

    python -m launch.train --config=configs/voc_cac.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cac

Data, network, labels and training are those of `voc_cac_supervised`; the same
arguments. 8 unlabeled images, of each two crops; the bank holds those of two
steps, 1,600 features of each crop. The first 5,785 steps (five epochs) are
supervised. Of a network at stride 8 (pspnet_cac): --config.method.pool=1.
There the scale of unlabeled images is 0.8 to 2. Published with ResNet-50 (mean
of three lists) at 1/16, 1/8, 1/4 and all of the labels: 70.1, 72.4, 74.0, 76.5
% mIoU. Ours: not yet run.
"""

from configs import context_aware, voc_cac_supervised


def get_config(arg=""):
    config = voc_cac_supervised.get_config(arg)
    config.method = context_aware.get("cac")
    return config
