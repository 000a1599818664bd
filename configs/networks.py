# SPDX-License-Identifier: Apache-2.0
"""Networks as the papers train them, for `config.network`.

Used by name: `configs/folder_supervised.py:network=deeplab_v3_plus`. Every
option stands here, so that each can be set on the command line:
`--config.network.weights=imagenet`.
"""

import copy
import difflib


def _batch_norm(momentum=0.9, frozen=False):
    return {
        "momentum": momentum,
        "epsilon": 1e-5,
        "synchronized": False,
        "frozen": frozen,
    }


NETWORKS = {
    # The small one for a CPU.
    "fcn": {"name": "fcn", "width": 24, "batch_norm": _batch_norm()},
    # Chen et al. 2021 (CPS).
    "deeplab_v3_plus": {
        "name": "deeplab_v3_plus",
        "depth": 50,
        "stem": "deep",
        "output_stride": 16,
        "aspp_rates": (6, 12, 18),
        "head": "cps",
        "multi_grid": (1, 2, 4),
        "dilate_first_block": True,
        "stride_on": "3x3",
        "weights": "",
        "normalization": "torch",
        "dilated_conv": "auto",
        "batch_norm": _batch_norm(),
    },
}


def get(name):
    """A copy of one entry of NETWORKS.

    Raises:
      ValueError: there is none of this name; lists the choices.
    """
    if name not in NETWORKS:
        close = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"Unknown network configuration {name!r}.{hint} "
            f"Available: {', '.join(NETWORKS)}."
        )
    return copy.deepcopy(NETWORKS[name])
