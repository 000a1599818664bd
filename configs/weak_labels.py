# SPDX-License-Identifier: Apache-2.0
"""The image classifier of weak labels, for `method` and `network`."""

import copy

METHODS = {
    "image_classifier": {"name": "image_classifier", "pool_padding": False},
}


def get(name):
    """A copy of the options of METHODS[name]."""
    return copy.deepcopy(METHODS[name])


def set_classifier(config):
    """Turns a config of a segmentation network into that of a classifier.

    Args:
      config: changed in place. Its network gives the encoder; its labeled and
        unlabeled images are those that are classified.
    """
    config.method = get("image_classifier")
    config.network = {"name": "cam", "backbone": config.network.to_dict()}
    config.dataset.image_labels = True
