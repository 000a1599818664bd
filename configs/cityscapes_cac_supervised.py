# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, labeled images alone, with the settings of Lai et al. 2021.

    python -m launch.train \
        --config=configs/cityscapes_cac_supervised.py:dir=PATH \
        --workdir=runs/cityscapes_cac_supervised

Arguments: those of `cityscapes_supervised` but crop; network is
deeplab_v3_plus_cac, or pspnet_cac. The authors' lists: labeled=FILE,every=1.

Settings of the official code: crop 720, batch 8, SGD with momentum 0.9,
learning rate 0.1, a tenth of it for the pre-trained encoder
(--config.network.weights), weight decay 1e-4, poly 0.9, 92,560 steps, whole
images to evaluate. It also changes the colors of labeled images. Published
with ResNet-50 at 1/8, 1/4 and all of the labels: 66.0, 70.7, 77.7 % mIoU.
Ours: not yet run.
"""

from configs import cityscapes_supervised, context_aware


def get_config(arg=""):
    config = cityscapes_supervised.get_config(
        f"network=deeplab_v3_plus_cac,steps=92560,{arg}"
    )
    context_aware.set_training(
        config, steps=config.train.steps, crop=720, rate=0.1
    )
    config.evaluate.window = 0
    return config
