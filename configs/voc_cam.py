# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, the image classifier behind weak labels: Ouali et al. 2020.

    python -m launch.pseudo_labels --config=configs/voc_cam.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cam

Labels the pixels of all training images, of which Annotations/ says what they
show; `voc_cct_weak` and `voc_cac_weak` learn from them. The arguments are
those of `voc_supervised`. It can also be trained alone:

    python -m launch.train --config=configs/voc_cam.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cam

Settings of the official code: ResNet-50 with frozen BatchNorm
(--config.network.backbone.weights), crop 512, the long side 320 to 640 pixels
(here that of an image of 500 pixels), batch 16, five epochs, SGD with learning
rate 1, a tenth of it for the encoder, poly 0.9, weight decay 1e-4. Its momentum
is 1e-4 (the weight decay stands in its place), here 0. Ours: not yet run.
"""

from configs import networks, voc_supervised, weak_labels


def get_config(arg=""):
    config = voc_supervised.get_config(f"steps=3305,{arg}")
    weak_labels.set_classifier(config)
    config.network = networks.get("cam_resnet50")
    config.data.scale = (0.64, 1.28)
    config.optimizer.learning_rate = 1.0
    config.optimizer.pretrained_multiplier = 0.1
    config.optimizer.momentum = 0.0
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norm_and_bias = True
    config.train.unlabeled_batch = 16
    return config
