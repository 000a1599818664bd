# SPDX-License-Identifier: Apache-2.0
"""The mean teacher family with the settings of French et al., for `method`.

Every option stands here, so that each can be set on the command line:
`--config.method.threshold=0.9`. Weights are those of the supplement, D.4.1.
"""

import copy

_BOXES = {
    # Share of the image in a mask's boxes together.
    "proportion_range": (0.5, 0.5),
    "num_boxes": 1,
    "by_size": False,
    "within_bounds": True,
    "random_aspect": True,
    # 1 inside the boxes.
    "invert": True,
    # Bugs of the official code.
    "shrink_fixed_aspect_twice": False,
    "wrap_negative_corners": False,
}
_CONSISTENCY = {
    "loss": "var",
    "unsup_weight": 1.0,
    "ramp": "none",
    "ramp_steps": 0,
    "threshold": 0.97,
    "confidence": "batch",
    "padding_weight": 0.0,
    "teacher_training": True,
    "joint_pass": False,
}
_TEACHER = {
    **_CONSISTENCY,
    "decay": 0.99,
    "decay_ramp": False,
    "teacher_statistics": "averaged",
}
_MEAN_TEACHER = {
    "name": "mean_teacher",
    **_TEACHER,
    "mask": "mix",
    "boxes": _BOXES,
    # config.data.pad_color: about 0 to a network.
    "cut_color": (124, 116, 104),
}

METHODS = {
    "cutmix": _MEAN_TEACHER,
    # "The network sees only the box", of any area.
    "cutout": {
        **_MEAN_TEACHER,
        "mask": "cut",
        "boxes": {**_BOXES, "proportion_range": (0.0, 1.0)},
    },
    "ict": {
        "name": "ict",
        **_TEACHER,
        "unsup_weight": 0.01,
        "alpha": 0.1,
        "confidence_across_images": False,
    },
    "vat": {
        "name": "vat",
        **_TEACHER,
        "loss": "kld",
        "unsup_weight": 0.1,
        "radius": 1.0,
        "adaptive": True,
        "xi": 1.0,
        "iterations": 1,
        "direction_network": "teacher",
        "leak_inference_mode": False,
    },
    "standard_augmentation": {
        "name": "standard_augmentation",
        **_TEACHER,
        "unsup_weight": 0.003,
    },
    "pi_model": {
        "name": "pi_model",
        **_CONSISTENCY,
        "unsup_weight": 0.003,
    },
}


def get(name):
    """A copy of the options of METHODS[name]."""
    return copy.deepcopy(METHODS[name])


def set_training(config, steps, *, batch):
    """How French et al. train on VOC and Cityscapes, supplement D.4.1.

    Args:
      config: changed in place.
      steps: of the whole training.
      batch: labeled images a step; as many unlabeled ones for the student.
    """
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 3e-5
    config.optimizer.pretrained_multiplier = 0.1
    config.optimizer.schedule = "constant"
    config.train.steps = steps
    config.train.labeled_batch = batch
    config.train.unlabeled_batch = batch
    config.train.evaluate_every = 2000
    config.train.checkpoint_every = 1000
    config.evaluate.batch = 1
    config.evaluate.absent = "zero"
