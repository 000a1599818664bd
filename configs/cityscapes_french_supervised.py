# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, labeled images alone: the baseline of French et al. 2020.

    python -m launch.prepare --dataset=cityscapes --source=CITYSCAPES \
        --dir=data/cityscapes_half
    python -m launch.train --workdir=runs/cityscapes_french_supervised \
        --config=configs/cityscapes_french_supervised.py

Arguments and settings: see `cityscapes_cutmix`. Published with DeepLab v2
from ImageNet, notebook of the repository, at 100, 372, 744 labels and all:
44.41, 55.25, 60.57, 67.53 % mIoU. Ours: not yet run.
"""

from configs import consistency, networks
from tfseg import config as config_lib


def get_config(arg=""):
    options = config_lib.parse_arg(
        arg,
        dir="data/cityscapes_half",
        labels=372,
        split=12345,
        network="deeplab_v2",
        steps=40000,
        seed=0,
    )
    config = config_lib.base_config()
    config.seed = options.seed
    config.dataset = {
        "name": "cityscapes",
        "dir": options.dir,
        "extra": False,
    }
    config.split.seed = options.split
    config.split.num_labeled = options.labels
    config.split.labeled_order = "random"
    config.data.crop = (256, 512)
    config.data.scale = (1.0, 1.0)
    config.network = networks.get(options.network)
    config.method = {"name": "supervised"}
    consistency.set_training(config, options.steps, batch=4)
    return config
