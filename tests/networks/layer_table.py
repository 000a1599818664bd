# SPDX-License-Identifier: Apache-2.0
"""What a built network is made of, for comparison with the papers."""

import numpy as np


def blocks(encoder):
    """(stride, dilation) of every block of every stage of a ResNet."""
    table = []
    for stage in encoder.backbone.stages:
        table.append([])
        for block in stage:
            first, second = block.reduce.convolution, block.spatial.convolution
            stride = first.strides[0] * second.strides[0]
            table[-1].append((stride, second.dilation_rate[0]))
    return table


def dilations(layers):
    """Of 3x3 convolutions."""
    return [layer.dilation_rate[0] for layer in layers]


def parameters(part):
    """Number of parameters, trained or frozen, without statistics."""
    return sum(
        int(np.prod(variable.shape))
        for variable in part.variables
        if "moving_" not in variable.name
    )
