# SPDX-License-Identifier: Apache-2.0
"""Your own folder, labeled images alone: what `folder_cutmix` has to beat.

    python -m launch.train --config=configs/folder_supervised.py:dir=PATH \
        --workdir=runs/mine_supervised

Arguments: dir (see tfseg.datasets.folder for its layout), labels (number of
labeled images, 0 = all), steps, crop (side, pixels), network (a name in
configs/networks.py), seed.

Not yet run on real photographs.
"""

from configs import networks
from tfseg import config as config_lib


def get_config(arg=""):
    options = config_lib.parse_arg(
        arg, dir="", labels=0, steps=5000, crop=256, network="fcn", seed=0
    )
    config = config_lib.base_config()
    config.seed = options.seed
    config.dataset.name = "folder"
    config.dataset.dir = options.dir
    config.split.seed = options.seed
    config.split.num_labeled = options.labels
    config.data.crop = (options.crop, options.crop)
    config.network = networks.get(options.network)
    config.method = {"name": "supervised"}
    config.train.steps = options.steps
    config.train.labeled_batch = 8
    config.train.unlabeled_batch = 16
    config.train.evaluate_every = 500
    config.train.checkpoint_every = 500
    # Photographs are evaluated whole: one of 12 million pixels fills a GPU.
    config.evaluate.batch = 1
    return config
