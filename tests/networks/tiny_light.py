# SPDX-License-Identifier: Apache-2.0
"""Tables of light encoders: the same blocks, but few and narrow."""

MOBILENET = (
    (3, 1, 8, 0.25, "relu", 2),
    (3, 2, 8, None, "relu", 2),
    (5, 2, 8, 0.25, "hard_swish", 1),
    (5, 2, 8, 0.25, "hard_swish", 2),
    (5, 2, 16, None, "hard_swish", 2),
)
EFFICIENTNET = (
    ("fused", 1, 8, 8, 1, 0, 1),
    ("fused", 2, 8, 8, 2, 0, 2),
    ("unfused", 2, 8, 8, 2, 0.25, 2),
    ("unfused", 1, 8, 8, 2, 0.25, 2),
    ("unfused", 1, 8, 16, 2, 0.25, 2),
)
