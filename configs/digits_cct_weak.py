# SPDX-License-Identifier: Apache-2.0
"""`digits_cct` with weak labels: of all scenes the digits are known.

    python -m launch.prepare --dataset=digits --dir=data/digits
    python -m launch.pseudo_labels --config=configs/digits_cam.py \
        --workdir=runs/digits_cam --foreground=0.7 --background=0.3
    python -m launch.train --config=configs/digits_cct_weak.py \
        --config.data.pseudo_labels=runs/digits_cam/pseudo_labels \
        --workdir=runs/digits_cct_weak

The same arguments. Not yet measured.
"""

from configs import digits_cct


def get_config(arg=""):
    config = digits_cct.get_config(arg)
    config.method.weak_weight = 0.4
    return config
