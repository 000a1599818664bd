# SPDX-License-Identifier: Apache-2.0
"""CAC with the settings of Lai et al. 2021 on VOC, for `method`.

Every option stands here, so that each can be set on the command line:
`--config.method.temperature=0.2`. Rows of Table 3: see `tfseg.methods.cac`.
"""

import copy

METHODS = {
    "cac": {
        "name": "cac",
        "unsup_weight": 0.1,
        # Five epochs of the official code, 1,157 steps each.
        "start_steps": 5785,
        "pool": 2,
        "projection": 128,
        "projection_hidden": 0,
        "temperature": 0.1,
        "threshold": 0.75,
        "directional": True,
        "filter_negatives": True,
        "filter_positives": True,
        "contrast": True,
        "normalization": "image",
        "bank_size": 51_200,
        "num_negatives": 0,
        # With image-level labels 0.4 that grows over a tenth of the training.
        "weak_weight": 0.0,
        "ramp": "exp",
        "ramp_steps": 0,
    },
}


# Rows of Table 3, of which VIII is the method: changes of `method` and `data`.
_ALL_NEGATIVES = {"filter_negatives": False, "filter_positives": False}
ABLATIONS = {
    "none": {},
    # I: the squared distance.
    "l2": {"contrast": False, "directional": False, **_ALL_NEGATIVES},
    # II: the vanilla contrastive loss, and III: the directional one.
    "vanilla": {"directional": False, **_ALL_NEGATIVES},
    "all_negatives": _ALL_NEGATIVES,
    # IV: positives of any confidence.
    "all_positives": {"filter_positives": False},
    # V: anchors on both sides.
    "bilateral": {"directional": False},
    # VI: two crops at the same place, so that the context is the same.
    "same_context": {"overlap_range": (1.0, 1.0)},
    # VII
    "no_projector": {"projection": 0},
}


def ablate(config, name):
    """Changes a config into that of a row of Table 3.

    Args:
      config: changed in place.
      name: key of ABLATIONS.

    Raises:
      ValueError: there is no such row.
    """
    if name not in ABLATIONS:
        raise ValueError(
            f"Unknown ablation {name!r}. Available: {', '.join(ABLATIONS)}."
        )
    for option, value in ABLATIONS[name].items():
        section = config.method if option in config.method else config.data
        section[option] = value


def get(name):
    """A copy of the options of METHODS[name]."""
    return copy.deepcopy(METHODS[name])


def set_training(config, *, steps, crop, rate):
    """How the official code trains on VOC and Cityscapes.

    Args:
      config: changed in place.
      steps: of the whole training.
      crop: side, pixels.
      rate: learning rate; a tenth of it for the pre-trained encoder.
    """
    config.data.crop = (crop, crop)
    # Of the unlabeled crops.
    config.data.jitter = (0.4, 0.4, 0.4, 0.1)
    config.data.jitter_rate = 0.8
    config.data.gray_rate = 0.2
    config.data.blur_rate = 0.5
    config.optimizer.learning_rate = rate
    config.optimizer.pretrained_multiplier = 0.1
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norm_and_bias = True
    config.train.steps = steps
    config.evaluate.absent = "zero"
