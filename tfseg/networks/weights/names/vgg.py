# SPDX-License-Identifier: Apache-2.0
"""Names of torchvision's VGG16 (models/vgg.py) -> ours.

`features` there is one list in which ReLU and pooling count as well. Its
variant with BatchNorm has other numbers, so its names are left over.
"""

from tfseg.networks.encoders import vgg


def _rules():
    rules, index = [], 0
    for stage, widths in enumerate(vgg.FILTERS):
        for layer in range(len(widths)):
            rules.append((rf"features\.{index}", f"stages/{stage}/{layer}"))
            index += 2
        index += 1
    return rules


RULES = _rules()
DROPPED = [r"classifier\.[036]"]
