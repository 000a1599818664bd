# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, labeled images alone: the baseline of CPS.

    python -m launch.prepare --dataset=voc --dir=VOCdevkit/VOC2012 \
        --source=benchmark_RELEASE
    python -m launch.train --config=configs/voc_supervised.py:dir=VOCDEVKIT \
        --workdir=runs/voc_supervised

Arguments: dir (see tfseg.datasets.voc), train (augmented or standard), labeled
(file of the ids whose labels may be used, "" = all), every (the labeled images
are every n-th of them, sorted, the rule of the authors' lists; 1 = all), extra
(images that are on no list are unlabeled ones as well), network (a name in
configs/networks.py), second (the same, of methods with two networks), steps,
seed. Few labels, as in Table 5: labeled=.../ImageSets/Segmentation/train.txt
with every=2, 4, 8 or 16 (732, 366, 183, 92), or a list of PseudoSeg's with
every=1.

Settings of Chen et al. 2021 (CPS) at 1/8, as their code runs them on one
device: crop 512, scale 0.5 to 2, batch 8, SGD with momentum 0.9, learning
rate 0.0025 (paper: 0.01 for four devices, whose gradients the code divides
twice), weight decay 4e-4 on weights, poly 0.9, 39,338 steps. Here the scale
is continuous, there one of six values. Published, ResNet-50 from ImageNet
(--config.network.weights): 69.43 % mIoU. Ours: not yet run.
"""

from configs import networks
from tfseg import config as config_lib


def get_config(arg=""):
    options = config_lib.parse_arg(
        arg,
        dir="data/VOCdevkit",
        train="augmented",
        labeled="",
        every=8,
        extra=False,
        network="deeplab_v3_plus",
        second="",
        steps=39338,
        seed=0,
    )
    config = config_lib.base_config()
    config.seed = options.seed
    config.dataset = {
        "name": "voc",
        "dir": options.dir,
        "train": options.train,
        "extra": options.extra,
        "image_labels": False,
    }
    config.split.seed = options.seed
    config.split.labeled_file = options.labeled
    config.split.labeled_step = options.every
    config.split.labeled_order = "sorted"
    config.data.crop = (512, 512)
    config.network = networks.get(options.network)
    if options.second:
        config.second_network = networks.get(options.second)
    config.method = {"name": "supervised"}
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.0025
    config.optimizer.weight_decay = 4e-4
    config.train.steps = options.steps
    config.train.labeled_batch = 8
    config.train.unlabeled_batch = 8
    config.train.evaluate_every = 2000
    config.train.checkpoint_every = 1000
    config.evaluate.batch = 1
    return config
