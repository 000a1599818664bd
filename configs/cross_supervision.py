# SPDX-License-Identifier: Apache-2.0
"""CPS and what Chen et al. 2021 compare it with, for `method`.

Every option stands here, so that each can be set on the command line:
`--config.method.unsup_weight=6`. Weights are those of the paper on VOC.
"""

import copy

_OHEM = {
    "supervised": "cross_entropy",
    "ohem_threshold": 0.7,
    "ohem_min_kept": 50_000,
}
_SUPERVISION = {
    "unsup_weight": 1.5,
    **_OHEM,
    "count_padding": False,
    "joint_pass": False,
}
# Class 0 is the background.
_PAIR = {**_SUPERVISION, "background": 0}
# Of the official code; the paper gives none.
_BOXES = {
    "proportion_range": (0.25, 0.5),
    "num_boxes": 3,
    "by_size": False,
    "within_bounds": True,
    "random_aspect": True,
    "invert": True,
    "shrink_fixed_aspect_twice": False,
    "wrap_negative_corners": False,
}

METHODS = {
    "cps": {
        "name": "cps",
        **_PAIR,
        "labeled_term": True,
        "unlabeled_term": True,
        "concatenate": False,
    },
    "cps_cutmix": {
        "name": "cps_cutmix",
        **_PAIR,
        "boxes": _BOXES,
        "labeled_term": False,
        "pseudo_training": True,
    },
    "cpc": {
        "name": "cpc",
        **_PAIR,
        "labeled_term": True,
        "unlabeled_term": True,
    },
    "sps": {"name": "sps", **_SUPERVISION},
    "sps_cutmix": {
        "name": "sps_cutmix",
        **_SUPERVISION,
        "boxes": _BOXES,
        "pseudo_training": True,
    },
    "self_training": {
        "name": "self_training",
        "unsup_weight": 1.0,
        **_OHEM,
        "joint_pass": False,
        "threshold": 0.0,
        "teacher": {"name": "supervised"},
    },
}


def get(name):
    """A copy of the options of METHODS[name]."""
    return copy.deepcopy(METHODS[name])
