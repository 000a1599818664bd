# SPDX-License-Identifier: Apache-2.0
"""CamVid, labeled images alone.

    python -m launch.train --config=configs/camvid_supervised.py:dir=PATH \
        --workdir=runs/camvid_supervised

Arguments: dir (see tfseg.datasets.camvid), labels (number of labeled images,
0 = all 367), classes (11, or 12 with Void), network (a name in
configs/networks.py), steps, seed.

Network, optimizer and 50 epochs of Ouali et al. 2020 (CCT, tables 8 and 9):
SGD, learning rate 0.01, a tenth of it for the encoder's backbone, momentum
0.9, weight decay 1e-4, poly 0.9. They do not say the crop and the batch on
CamVid; 320 and 8 are ours, for the 480 x 360 pixels of SegNet's version.
Ours: not yet run.
"""

from configs import networks
from tfseg import config as config_lib


def get_config(arg=""):
    options = config_lib.parse_arg(
        arg,
        dir="data/CamVid",
        labels=0,
        classes=11,
        network="cct",
        steps=2300,
        seed=0,
    )
    config = config_lib.base_config()
    config.seed = options.seed
    config.dataset = {
        "name": "camvid",
        "dir": options.dir,
        "num_classes": options.classes,
    }
    config.split.seed = options.seed
    config.split.num_labeled = options.labels
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
    config.train.evaluate_every = 500
    config.train.checkpoint_every = 500
    config.evaluate.batch = 8
    return config
