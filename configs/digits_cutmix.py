# SPDX-License-Identifier: Apache-2.0
"""`digits_supervised` with the CutMix mean teacher on the unlabeled scenes.

    python -m launch.prepare --dataset=digits --dir=data/digits
    python -m launch.train --config=configs/digits_cutmix.py \
        --workdir=runs/digits_cutmix

Same labels, network, batch of labels, optimizer and steps as
`digits_supervised`; the same arguments.
"""

from configs import digits_supervised


def get_config(arg=""):
    config = digits_supervised.get_config(arg)
    config.method = {
        "name": "mean_teacher",
        "loss": "var",
        "unsup_weight": 1.0,
        "ramp": "none",
        "ramp_steps": 0,
        "threshold": 0.97,
        "confidence_per_pixel": False,
        "decay": 0.99,
        "teacher_training": True,
        "teacher_statistics": "averaged",
        "box_proportion": (0.5, 0.5),
        "num_boxes": 1,
    }
    return config
