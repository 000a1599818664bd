# SPDX-License-Identifier: Apache-2.0
"""Rules that translate the names of a PyTorch state dict into ours."""

import re


def prefixed(rules, source, target):
    """The same rules for a part of a larger model.

    Args:
      rules: list of (pattern, replacement), see `names.resnet`.
      source: name of the part in the state dict, for example "encoder.base".
      target: path of the part in our model, for example "encoder".
    """
    return [
        (rf"{re.escape(source)}\.{pattern}", f"{target}/{replacement}")
        for pattern, replacement in rules
    ]
