# SPDX-License-Identifier: Apache-2.0
"""ISIC 2017, CutMix mean teacher with the settings of French et al. 2020.

    python -m launch.prepare --dataset=isic --source=ISIC --dir=data/isic_248
    python -m launch.train --config=configs/isic_cutmix.py \
        --workdir=runs/isic_cutmix

Arguments and settings: those of `isic_supervised`. The student sees 10 mixed
images, so 20 are read. Published, DenseUNet-161 from ImageNet, 50 labels,
notebook of the repository: 74.57 % mean IoU. Ours: not yet run.
"""

from configs import consistency, isic_supervised


def get_config(arg=""):
    config = isic_supervised.get_config(arg)
    config.method = consistency.get("cutmix")
    config.train.unlabeled_batch = 20
    return config
