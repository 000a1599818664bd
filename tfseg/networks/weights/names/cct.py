# SPDX-License-Identifier: Apache-2.0
"""Names in a checkpoint of CCT (key "state_dict") -> ours, network `cct`.

The auxiliary decoders serve the training only and are not wanted.
"""

from tfseg.networks.weights.names import base, resnet

_STAGES = [
    rule for index in range(4) for rule in resnet.stage(str(index + 1), index)
]
_PYRAMID = [
    (r"stages\.(\d)\.1", r"branches/\1/convolution"),
    (r"stages\.(\d)\.2", r"branches/\1/batch_norm"),
    (r"bottleneck\.0", "merge"),
    (r"bottleneck\.1", "merge_norm"),
]


def encoder(target, pyramid):
    """Rules for the encoder, which CAC shares.

    Args:
      target: path of the ResNet.
      pyramid: path of the pyramid pooling.
    """
    return (
        base.prefixed(resnet.STEM, "encoder.base.0.0", target)
        + base.prefixed(_STAGES, "encoder.base", target)
        + base.prefixed(_PYRAMID, "encoder.psp", pyramid)
    )


RULES = (
    encoder("encoder/resnet", "encoder/pyramid")
    + [
        (r"main_decoder\.upsample\.0", "decoder/classifier"),
    ]
    + [
        (rf"main_decoder\.upsample\.{n + 1}\.conv", f"decoder/upsample/{n}")
        for n in range(3)
    ]
)
DROPPED = [r"aux_decoders\..*"]
