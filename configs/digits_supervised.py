# SPDX-License-Identifier: Apache-2.0
"""Embedded data set `digits`, labeled scenes alone: the floor to beat.

    python -m launch.prepare --dataset=digits --dir=data/digits
    python -m launch.train --config=configs/digits_supervised.py \
        --workdir=runs/digits_supervised

Arguments: labels (scenes with masks), steps, seed (of everything, also of the
choice of the labeled scenes), crop (side, pixels; a scene has 64), second
(name in configs/networks.py of the second network, of methods that have two),
precision, dir.

Measured, seeds 0, 1, 2, test mIoU at 80 labels and 3,000 steps: 43.7, 43.5,
34.6 % (`python -m launch.demo --seed=S`).
"""

from configs import networks
from tfseg import config as config_lib


def get_config(arg=""):
    options = config_lib.parse_arg(
        arg,
        labels=80,
        steps=3000,
        seed=0,
        crop=64,
        second="",
        precision="float32",
        dir="data/digits",
    )
    config = config_lib.base_config()
    config.seed = options.seed
    config.runtime.precision = options.precision
    config.dataset.name = "digits"
    config.dataset.dir = options.dir
    config.split.seed = options.seed
    config.split.num_labeled = options.labels
    config.data.crop = (options.crop, options.crop)
    config.data.scale = (0.8, 1.25)
    # A mirrored digit is another sign.
    config.data.flip_rate = 0.0
    config.network = {
        "name": "fcn",
        "width": 16,
        "batch_norm": {"momentum": 0.9, "synchronized": False},
    }
    if options.second:
        config.second_network = networks.get(options.second)
    config.method = {"name": "supervised"}
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "poly"
    config.train.steps = options.steps
    config.train.labeled_batch = 8
    config.train.unlabeled_batch = 16
    config.train.evaluate_every = 500
    config.train.checkpoint_every = 500
    config.evaluate.batch = 50
    return config
