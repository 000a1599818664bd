# SPDX-License-Identifier: Apache-2.0
"""Which digits a scene shows: the classifier behind weak labels.

    python -m launch.prepare --dataset=digits --dir=data/digits
    python -m launch.pseudo_labels --config=configs/digits_cam.py \
        --workdir=runs/digits_cam --foreground=0.7 --background=0.3

Labels the pixels of all training scenes, of which the digits that they show
are known, but no mask; `digits_cct_weak` and `digits_cac_weak` learn from
them. The encoder, the optimizer and the steps are those of
`digits_supervised`; the same arguments. The thresholds are those that are best
on the 80 labeled scenes: there, 51.8 % mIoU of the pixels with a label, 26.0 %
by the official 0.3 and 0.05, as the maps are coarse. It can also be trained
alone:

    python -m launch.train --config=configs/digits_cam.py \
        --workdir=runs/digits_cam
"""

from configs import digits_supervised, weak_labels


def get_config(arg=""):
    config = digits_supervised.get_config(arg)
    weak_labels.set_classifier(config)
    return config
