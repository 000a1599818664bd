# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, labeled images alone, with the settings of Lai et al. 2021.

    python -m launch.train \
        --config=configs/voc_cac_supervised.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cac_supervised

Arguments: those of `voc_supervised`; network is deeplab_v3_plus_cac, or
pspnet_cac, vgg16. The authors' lists: labeled=FILE,every=1.

Settings of the official code: crop 320, batch 8, SGD with momentum 0.9,
learning rate 0.01, a tenth of it for the pre-trained encoder
(--config.network.weights), weight decay 1e-4, poly 0.9, 92,560 steps. There
the scale is relative to a long side of 400 pixels, here to each image: 0.5 to
2 in both. Published with ResNet-50 (mean of three lists) at 1/16, 1/8, 1/4 and
all of the labels: 63.9, 68.3, 71.2, 76.3 % mIoU. Ours: not yet run.
"""

from configs import context_aware, voc_supervised


def get_config(arg=""):
    config = voc_supervised.get_config(
        f"network=deeplab_v3_plus_cac,steps=92560,{arg}"
    )
    context_aware.set_training(
        config, steps=config.train.steps, crop=320, rate=0.01
    )
    return config
