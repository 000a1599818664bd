# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, cross-consistency training: Ouali et al. 2020.

    python -m launch.train --config=configs/voc_cct.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cct

Data and labels are those of `voc_supervised`; the same arguments, of which
network is cct. The authors' lists of 60 to 1,464 labeled images, of which some
are VOC's own: labeled=FILE,every=1.

Settings of the official configuration: crop 320, batch 10 and 10, SGD with
momentum 0.9, learning rate 0.01, a tenth of it for the pre-trained encoder
(--config.network.weights), weight decay 1e-4, poly 0.9, 80 epochs of 912 steps
(the paper has 50), L_u with weight 30, the labeled loss that of the pixels not
yet learned. There the scale is relative to a long side of 400 pixels, here to
each image: 0.5 to 2 in both. Published with 1,464 labels: 69.4 % mIoU, with
1,000 64.4, with 500 58.6. Ours: not yet run.
"""

from configs import cross_consistency, voc_supervised


def get_config(arg=""):
    config = voc_supervised.get_config(f"network=cct,steps=72960,{arg}")
    steps = config.train.steps
    config.method = cross_consistency.get("cct")
    config.method.supervised = "bootstrapped"
    config.method.ramp_steps = steps // 10
    config.method.bootstrap_steps = 2 * steps // 5
    config.data.crop = (320, 320)
    config.optimizer.learning_rate = 0.01
    config.optimizer.pretrained_multiplier = 0.1
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norm_and_bias = True
    config.train.labeled_batch = 10
    config.train.unlabeled_batch = 10
    config.evaluate.absent = "zero"
    return config
