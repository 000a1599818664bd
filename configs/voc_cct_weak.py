# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC 2012, cross-consistency training with image-level labels.

    python -m launch.pseudo_labels --config=configs/voc_cam.py:dir=VOCDEVKIT \
        --workdir=runs/voc_cam
    python -m launch.train \
        --config=configs/voc_cct_weak.py:dir=VOCDEVKIT,labeled=TRAIN,every=1 \
        --config.data.pseudo_labels=runs/voc_cam/pseudo_labels \
        --workdir=runs/voc_cct_weak

As `voc_cct`, with the same arguments; of the unlabeled images is known which
classes they show. The first command learns from that where the classes are;
the auxiliary decoders learn the labels that it writes as well, with weight
0.4. TRAIN is ImageSets/Segmentation/train.txt, the 1,464 images that have
masks there; of the other 9,118 the classes are known. Published: 73.2 % mIoU,
without those classes 69.4 (Ouali et al. 2020; in the settings of Lai et al.
2021, Table 5, 74.6 and 72.8). Ours: not yet run.
"""

from configs import voc_cct


def get_config(arg=""):
    config = voc_cct.get_config(arg)
    config.dataset.image_labels = True
    config.method.weak_weight = 0.4
    return config
