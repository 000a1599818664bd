# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, context-aware consistency with image-level labels.

    python -m launch.pseudo_labels --config=configs/voc_cam.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cam
    python -m launch.train \
        --config=configs/voc_cac_weak.py:dir=VOCDEVKIT,labeled=TRAIN,every=1 \
        --config.data.pseudo_labels=runs/voc_cam/pseudo_labels \
        --workdir=runs/voc_cac_weak

The same as `voc_cac`, of Lai et al. 2021, section 4.4, with the same arguments;
unlabeled images have labels that class activation maps give, for a classifier
of their own with weight 0.4. It grows over a tenth of the training, as in CCT.
TRAIN is ImageSets/Segmentation/train.txt, the 1,464 images that have masks
there; of the other 9,118 the classes are known. Published: ResNet-50 76.1 %
mIoU (74.5 without those classes), VGG-16 69.3 (68.7). Ours: not yet run.
"""

from configs import voc_cac


def get_config(arg=""):
    config = voc_cac.get_config(arg)
    config.method.weak_weight = 0.4
    config.method.ramp_steps = config.train.steps // 10
    return config
