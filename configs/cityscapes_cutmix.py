# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, CutMix mean teacher with the settings of French et al. 2020.

    python -m launch.prepare --dataset=cityscapes --source=CITYSCAPES \
        --dir=data/cityscapes_half
    python -m launch.train --config=configs/cityscapes_cutmix.py \
        --workdir=runs/cityscapes_cutmix

Arguments: dir (the copy at half resolution, see tfseg.datasets.cityscapes),
labels (number of labeled images: 100, 372, 744; 0 = all), split (seed of their
choice, which is the authors': theirs are 12345, 23456, 34567, 45678, 56789),
network (a name in configs/networks.py), steps, seed.

Supplement D.4.1: images at half resolution, crops of 256 x 512, horizontal
flips, Adam with learning rate 3e-5 (a tenth for the encoder), batch 4, 40,000
steps, BatchNorm frozen. The student sees 4 mixed images, so 8 are read. Crops
of 512 x 1024 need three boxes (D.3): --config.data.crop="(512, 1024)"
--config.method.boxes.num_boxes=3. Their scripts also change the colors of the
student's view: --config.data.jitter_rate=0.8 --config.data.gray_rate=0.2.
Published with DeepLab v2 from ImageNet, notebook of the repository, at 100,
372, 744 labels and all: 51.20, 60.34, 63.87, 67.68 % mIoU. Ours: not yet run.
"""

from configs import cityscapes_french_supervised, consistency


def get_config(arg=""):
    config = cityscapes_french_supervised.get_config(arg)
    config.method = consistency.get("cutmix")
    config.train.unlabeled_batch = 8
    return config
