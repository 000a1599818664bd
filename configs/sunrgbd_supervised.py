# SPDX-License-Identifier: Apache-2.0
"""SUN RGB-D, labeled images alone.

    python -m launch.train --config=configs/sunrgbd_supervised.py:dir=PATH \
        --workdir=runs/sunrgbd_supervised

Arguments: dir (see tfseg.datasets.sunrgbd), labels (number of labeled images,
0 = all but those held out), network (a name in configs/networks.py), steps,
seed.

A twentieth of the 5,285 training images is held out for validation, as there
is no list; `launch.evaluate --split=test` gives the number on the 5,050 test
images. Network and optimizer of Ouali et al. 2020 (CCT, tables 8 and 9): SGD,
learning rate 0.01, a tenth of it for the encoder's backbone, momentum 0.9,
weight decay 1e-4, poly 0.9, 100 epochs; they train it together with
Cityscapes. Crop 320 and batch 8 are ours. Ours: not yet run.
"""

from configs import networks
from tfseg import config as config_lib


def get_config(arg=""):
    options = config_lib.parse_arg(
        arg,
        dir="data/SUNRGBD",
        labels=0,
        network="cct",
        steps=62700,
        seed=0,
    )
    config = config_lib.base_config()
    config.seed = options.seed
    config.dataset = {"name": "sunrgbd", "dir": options.dir}
    config.split.seed = options.seed
    config.split.num_labeled = options.labels
    config.split.validation_fraction = 0.05
    config.data.crop = (320, 320)
    config.network = networks.get(options.network)
    config.method = {"name": "supervised"}
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01
    config.optimizer.pretrained_multiplier = 0.1
    config.optimizer.weight_decay = 1e-4
    config.train.steps = options.steps
    config.train.labeled_batch = 8
    config.train.unlabeled_batch = 8
    config.train.evaluate_every = 2000
    config.train.checkpoint_every = 1000
    config.evaluate.batch = 8
    return config
