# SPDX-License-Identifier: Apache-2.0
"""CCT with the settings of Ouali et al. 2020, for `method`.

Every option stands here, so that each can be set on the command line:
`--config.method.decoders.i_vat=0`. Counts and values are those of the official
configuration and of table 9 of the supplement; where they differ, the paper's.
"""

import copy

_SHARED = {
    "decoders": {
        "i_vat": 2,
        "drop_out": 6,
        "g_cutout": 6,
        "con_msk": 2,
        "obj_msk": 2,
        "f_drop": 6,
        "f_noise": 6,
    },
    "perturbations": {
        "drop_rate": 0.5,
        # Official: (0.7, 0.9).
        "drop_threshold": (0.6, 0.9),
        "noise_limit": 0.3,
        "erase": 0.4,
        "erase_by_side": False,
        "max_objects": 32,
        "min_perimeter": 0,
        "outermost": False,
        "vat_radius": 2.0,
        "vat_xi": 0.01,
        "vat_iterations": 1,
    },
    "unsup_weight": 30.0,
    # Official: "sigmoid".
    "ramp": "exp",
    # A tenth of the training, of which `bootstrap_steps` is 0.4.
    "ramp_steps": 4000,
    "supervised": "cross_entropy",
    "bootstrap_threshold": 0.9,
    "bootstrap_steps": 16000,
    "distance": "mse",
    "over_classes": False,
    "confidence_masking": False,
    "threshold": 0.5,
    "pairwise_weight": 0.0,
    "pairwise_outputs": 8,
}

METHODS = {
    "cct": {
        "name": "cct",
        # Of weak labels; the paper's is 0.4.
        "weak_weight": 0.0,
        **_SHARED,
    },
    "cct_domains": {
        "name": "cct_domains",
        # Of the alignment of the domains; the paper's is 0.02.
        "adversarial_weight": 0.0,
        **_SHARED,
    },
}


# Rows of a comparison: changes of the options of `cct`. The last ones have
# auxiliary decoders of one kind alone.
VARIANTS = {
    "none": {},
    "kl": {"distance": "kl"},
    "js": {"distance": "js"},
    "confidence": {"confidence_masking": True},
    "pairwise": {"pairwise_weight": 1.0},
    **{
        kind: {
            "decoders": {
                name: count if name == kind else 0
                for name, count in _SHARED["decoders"].items()
            }
        }
        for kind in _SHARED["decoders"]
    },
}


def vary(config, name):
    """Changes a config of `cct` into that of a row.

    Args:
      config: changed in place.
      name: key of VARIANTS.

    Raises:
      ValueError: there is no such row.
    """
    if name not in VARIANTS:
        raise ValueError(
            f"Unknown variant {name!r}. Available: {', '.join(VARIANTS)}."
        )
    config.method.update(copy.deepcopy(VARIANTS[name]))


def get(name):
    """A copy of the options of METHODS[name]."""
    return copy.deepcopy(METHODS[name])
