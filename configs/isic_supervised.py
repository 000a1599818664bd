# SPDX-License-Identifier: Apache-2.0
"""ISIC 2017, 50 labeled images alone: the baseline of French et al.

    python -m launch.prepare --dataset=isic --source=ISIC --dir=data/isic_248
    python -m launch.train --config=configs/isic_supervised.py \
        --workdir=runs/isic_supervised

Arguments: dir (see tfseg.datasets.isic), labels (number of labeled images,
0 = all 2,000), split (seed of their choice, which is the authors': theirs are
12345, 23456, 78901, 89012 and 90123), network (a name in configs/networks.py),
steps, seed.

Settings of French et al. 2020, supplement D.4.2: crops of 224 from images of
248 x 248, scale 0.9 to 1.1, SGD with Nesterov momentum 0.9, learning rate
0.05 (their script: 0.1 without Nesterov), weight decay 5e-4 on all
parameters, poly 0.9, a tenth of the rate for the encoder, batch 10, 100
epochs of 400 steps, flips in three directions, rotation by up to 45 degrees.
They also fill holes in predictions; this does not. Published, DenseUNet-161
from ImageNet, 50 labels, notebook of the repository: 67.64 % mean IoU; all
labels 78.61 %. Ours: not yet run.
"""

from configs import networks
from tfseg import config as config_lib


def get_config(arg=""):
    options = config_lib.parse_arg(
        arg,
        dir="data/isic_248",
        labels=50,
        split=12345,
        network="dense_unet",
        steps=40000,
        seed=0,
    )
    config = config_lib.base_config()
    config.seed = options.seed
    config.dataset = {"name": "isic", "dir": options.dir}
    config.split.seed = options.split
    config.split.num_labeled = options.labels
    config.split.labeled_order = "random"
    config.data.crop = (224, 224)
    config.data.scale = (0.9, 1.1)
    config.data.vertical_flip_rate = 0.5
    config.data.transpose_rate = 0.5
    config.data.rotation = 45.0
    config.network = networks.get(options.network)
    config.method = {"name": "supervised"}
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.05
    config.optimizer.nesterov = True
    config.optimizer.pretrained_multiplier = 0.1
    config.optimizer.weight_decay = 5e-4
    config.optimizer.decay_norm_and_bias = True
    config.train.steps = options.steps
    config.train.labeled_batch = 10
    config.train.unlabeled_batch = 10
    config.train.evaluate_every = 2000
    config.train.checkpoint_every = 1000
    config.evaluate.batch = 50
    config.evaluate.absent = "zero"
    return config
