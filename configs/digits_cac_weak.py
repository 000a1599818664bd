# SPDX-License-Identifier: Apache-2.0
"""`digits_cac` with weak labels: of all scenes the digits are known.

    python -m launch.prepare --dataset=digits --dir=data/digits
    python -m launch.pseudo_labels --config=configs/digits_cam.py \
        --workdir=runs/digits_cam --foreground=0.7 --background=0.3
    python -m launch.train --config=configs/digits_cac_weak.py:crop=48 \
        --config.data.pseudo_labels=runs/digits_cam/pseudo_labels \
        --workdir=runs/digits_cac_weak

The same arguments. Not yet measured.
"""

from configs import digits_cac


def get_config(arg=""):
    config = digits_cac.get_config(arg)
    config.method.weak_weight = 0.4
    config.method.ramp_steps = config.train.steps // 10
    return config
