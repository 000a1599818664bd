# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, CutMix mean teacher with the settings of French et al. 2020.

    python -m launch.prepare --dataset=voc --dir=VOCdevkit/VOC2012 \
        --source=benchmark_RELEASE
    python -m launch.train --config=configs/voc_cutmix.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cutmix

Arguments: dir (see tfseg.datasets.voc), labels (number of labeled images: 106,
212, 529, 1323; 0 = all), split (their list, the authors' `split_0.pkl`; "" =
the seed chooses them), network (a name in configs/networks.py), steps, seed.

Supplement D.4.1: crops of 321, scale 0.5 to 1.5, Adam with learning rate 3e-5
(a tenth for the encoder), batch 10, 40,000 steps, BatchNorm frozen; DeepLab
v3+ with 1e-5, Dense U-Net with 3e-4, PSPNet with 1e-4. The student sees 10
mixed images, so 20 are read. Here the scale is continuous and log-uniform,
there a multiple of 0.1. Their scripts also change the colors of the student's
view: --config.data.jitter_rate=0.8 --config.data.gray_rate=0.2. Published with
DeepLab v2 from ImageNet at 106, 212, 529, 1323 labels and all: 53.79, 64.81,
66.48, 67.60, 72.54 % mIoU. Ours: not yet run.
"""

from configs import consistency, voc_french_supervised


def get_config(arg=""):
    config = voc_french_supervised.get_config(arg)
    config.method = consistency.get("cutmix")
    config.train.unlabeled_batch = 20
    return config
