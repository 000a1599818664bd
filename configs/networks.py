# SPDX-License-Identifier: Apache-2.0
"""Networks as the papers train them, for `config.network`.

Used by name: `configs/folder_supervised.py:network=deeplab_v3_plus`. Every
option stands here, so that each can be set on the command line:
`--config.network.weights=imagenet`.
"""

import copy
import difflib


def _batch_norm(momentum=0.9, epsilon=1e-5, frozen=False):
    return {
        "momentum": momentum,
        "epsilon": epsilon,
        "synchronized": False,
        "frozen": frozen,
    }


def _network(name, frozen=False, **options):
    """Options of a network with what all but the smallest have."""
    return {
        "name": name,
        "weights": "",
        "normalization": "torch",
        "dilated_conv": "auto",
        "batch_norm": _batch_norm(frozen=frozen),
        **options,
    }


def _undilated(name, **options):
    network = _network(name, **options)
    network.pop("dilated_conv")
    return network


def _deeplab_v3_plus(**options):
    default = {
        "depth": 50,
        "stem": "deep",
        "stride_on": "3x3",
        "output_stride": 16,
        "multi_grid": (1, 2, 4),
        "dilate_first_block": True,
        "aspp_rates": (6, 12, 18),
        "head": "cps",
    }
    return _network("deeplab_v3_plus", **{**default, **options})


def _fcn():
    return {"name": "fcn", "width": 24, "batch_norm": _batch_norm()}


NETWORKS = {
    # The small one for a CPU.
    "fcn": _fcn(),
    # Chen et al. 2018 on Howard et al. 2019, for a laptop.
    "mobilenet_v3": _network(
        "deeplab_v3_plus_light",
        encoder="mobilenet_v3_small",
        aspp_rates=(3, 6, 9),
        head="cps",
        batch_norm=_batch_norm(0.99, 1e-3),
    ),
    # Chen et al. 2021 (CPS).
    "deeplab_v3_plus": _deeplab_v3_plus(),
    "deeplab_v3_plus_101": _deeplab_v3_plus(depth=101),
    # Lai et al. 2021 (CAC).
    "deeplab_v3_plus_cac": _deeplab_v3_plus(stem="plain", head="cac"),
    "pspnet_cac": _network("pspnet", depth=50, bins=(1, 2, 3, 6), head="cac"),
    "vgg16": {
        "name": "vgg16",
        "output_stride": 8,
        "pool_size": 3,
        "head": "large_fov",
        "rates": (12,),
        "weights": "",
        "normalization": "torch",
        "dilated_conv": "auto",
    },
    # Ouali et al. 2020 (CCT).
    "cct": _network("cct", sub_pixel_relu=True),
    # Their classifier of images, for pseudo labels, and one for a CPU.
    "cam_resnet50": {
        "name": "cam",
        "backbone": _deeplab_v3_plus(
            frozen=True,
            stem="plain",
            multi_grid=(1, 1, 1),
            dilate_first_block=False,
        ),
    },
    "cam_fcn": {"name": "cam", "backbone": _fcn()},
    # French et al. 2020 (CutMix-Seg).
    "deeplab_v2": _network(
        "deeplab_v2",
        frozen=True,
        depth=101,
        aspp_rates=(6, 12, 18, 24),
        classifier_branches="all",
    ),
    "deeplab_v3_plus_cutmix": _deeplab_v3_plus(
        frozen=True,
        depth=101,
        stem="plain",
        output_stride=8,
        multi_grid=(1, 1, 1),
        dilate_first_block=False,
        aspp_rates=(12, 24, 36),
        head="torchvision",
    ),
    "pspnet_cutmix": _network(
        "pspnet", depth=101, bins=(1, 2, 3, 6), head="csail"
    ),
    "dense_unet": _undilated("dense_unet", depth=161),
    # Sun et al. 2019; CPS has W48 in its Table 3.
    "hrnet_w18": _undilated(
        "hrnet", width=18, align_corners=True, batch_norm=_batch_norm(0.99)
    ),
    "hrnet_w48": _undilated(
        "hrnet", width=48, align_corners=True, batch_norm=_batch_norm(0.99)
    ),
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
