# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, labeled images alone: the baseline of French et al. 2020.

    python -m launch.train --workdir=runs/voc_french_supervised \
        --config=configs/voc_french_supervised.py:dir=VOCDEVKIT

Arguments and settings: see `voc_cutmix`. Published with DeepLab v2 from
ImageNet at 106, 212, 529, 1323 labels and all: 33.09, 43.15, 52.05, 60.56,
72.59 % mIoU. Ours: not yet run.
"""

from configs import consistency, networks
from tfseg import config as config_lib


def get_config(arg=""):
    options = config_lib.parse_arg(
        arg,
        dir="data/VOCdevkit",
        labels=106,
        split="",
        network="deeplab_v2",
        steps=40000,
        seed=0,
    )
    config = config_lib.base_config()
    config.seed = options.seed
    config.dataset = {
        "name": "voc",
        "dir": options.dir,
        "train": "augmented",
        "extra": False,
        "image_labels": False,
    }
    config.split.seed = options.seed
    config.split.num_labeled = options.labels
    config.split.labeled_file = options.split
    config.split.labeled_order = "random"
    config.data.crop = (321, 321)
    config.data.scale = (0.5, 1.5)
    config.network = networks.get(options.network)
    config.method = {"name": "supervised"}
    consistency.set_training(config, options.steps, batch=10)
    return config
