# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, labeled images alone: the baseline of CPS.

    python -m launch.train --config=configs/cityscapes_supervised.py:dir=PATH \
        --workdir=runs/cityscapes_supervised

Arguments: dir (see tfseg.datasets.cityscapes; also the copy at half
resolution), labeled (file of the ids whose labels may be used, "" = all), every
(the labeled images are every n-th of them, sorted, 1 = all), extra (the
coarsely labeled images are unlabeled ones as well), crop (side, pixels),
network (a name in configs/networks.py), second (the same, of methods with two
networks), steps, seed. The authors take every n-th of a list of their own
order: give it as labeled, with every=1. Full supervision and 3,000 more images
(Figure 3): every=1,extra=true --config.split.unlabeled_file=FILE.

Settings of Chen et al. 2021 (CPS) at 1/8, as their code runs them on one
device: crop 800, scale 0.5 to 2, batch 8, SGD with momentum 0.9, learning
rate 0.0025 (paper: 0.04 for eight devices), weight decay 8e-4 on weights,
poly 0.9, 44,525 steps; evaluation by windows of 800 that overlap by a third.
They train with OHEM, this with plain cross-entropy. Published, ResNet-50 from
ImageNet (--config.network.weights): 70.32 % mIoU. Ours: not yet run.
"""

from configs import networks
from tfseg import config as config_lib


def get_config(arg=""):
    options = config_lib.parse_arg(
        arg,
        dir="data/cityscapes",
        labeled="",
        every=8,
        extra=False,
        crop=800,
        network="deeplab_v3_plus",
        second="",
        steps=44525,
        seed=0,
    )
    config = config_lib.base_config()
    config.seed = options.seed
    config.dataset = {
        "name": "cityscapes",
        "dir": options.dir,
        "extra": options.extra,
    }
    config.split.seed = options.seed
    config.split.labeled_file = options.labeled
    config.split.labeled_step = options.every
    config.split.labeled_order = "sorted"
    config.data.crop = (options.crop, options.crop)
    config.network = networks.get(options.network)
    if options.second:
        config.second_network = networks.get(options.second)
    config.method = {"name": "supervised"}
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.0025
    config.optimizer.weight_decay = 8e-4
    config.train.steps = options.steps
    config.train.labeled_batch = 8
    config.train.unlabeled_batch = 8
    config.train.evaluate_every = 2000
    config.train.checkpoint_every = 1000
    config.evaluate.batch = 1
    config.evaluate.window = options.crop
    config.evaluate.overlap = 1 / 3
    return config
