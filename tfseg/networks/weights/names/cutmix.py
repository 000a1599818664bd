# SPDX-License-Identifier: Apache-2.0
"""Names in the networks of French et al. (cutmix-semisup-seg) -> ours.

Of `deeplab_v2` (architectures/deeplab2.py; AdvSemiSeg, where it comes from,
and its COCO weights have the same names), of `deeplab_v3_plus` with head
"torchvision" and the plain stem, and of `pspnet` with head "csail".
"""

from tfseg.networks.weights.names import base, resnet

_DEEPLAB_V2 = [
    (pattern, f"encoder/{path}") for pattern, path in resnet.RULES
] + [(r"layer5\.conv2d_list\.(\d)", r"decoder/classifier/branches/\1")]

_POOLING = [
    (r"convs\.([0-3])\.0", r"branches/\1/convolution"),
    (r"convs\.([0-3])\.1", r"branches/\1/batch_norm"),
    (r"convs\.4\.1", "pooled_branch/convolution"),
    (r"convs\.4\.2", "pooled_branch/batch_norm"),
    (r"project\.0", "reduce/convolution"),
    (r"project\.1", "reduce/batch_norm"),
]
_DECODER = [
    (r"project\.0", "low_level/convolution"),
    (r"project\.1", "low_level/batch_norm"),
    (r"classifier\.0", "merge/0/convolution"),
    (r"classifier\.1", "merge/0/batch_norm"),
    (r"classifier\.3", "merge/1/convolution"),
    (r"classifier\.4", "merge/1/batch_norm"),
    (r"classifier\.6", "classifier"),
]
_DEEPLAB_V3_PLUS = (
    base.prefixed(resnet.RULES, "deeplab.backbone", "encoder")
    + base.prefixed(_POOLING, "deeplab.classifier.aspp", "decoder/pooling")
    + base.prefixed(_DECODER, "deeplab.classifier", "decoder")
)

_PYRAMID = [
    (r"ppm\.(\d)\.1", r"pyramid/branches/\1/convolution"),
    (r"ppm\.(\d)\.2", r"pyramid/branches/\1/batch_norm"),
    (r"conv_last\.0", "pyramid/merge"),
    (r"conv_last\.1", "pyramid/merge_norm"),
    (r"conv_last\.4", "classifier"),
]
_PSPNET = base.prefixed(resnet.RULES, "encoder", "encoder") + base.prefixed(
    _PYRAMID, "decoder", "decoder"
)

RULES = _DEEPLAB_V2 + _DEEPLAB_V3_PLUS + _PSPNET
DROPPED = [r"fc"]
