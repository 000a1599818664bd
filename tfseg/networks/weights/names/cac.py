# SPDX-License-Identifier: Apache-2.0
"""Names in a checkpoint of CAC (key "state_dict") -> ours.

Of both of its networks: `deeplab_v3_plus` with head "cac" and the plain stem,
and `pspnet`. The projector belongs to the method and is not wanted here.
"""

from tfseg.networks.weights.names import base, cct, resnet

_POOLING = [
    (rf"aspp\.aspp{n + 1}\.{name}", f"branches/{n}/{layer}")
    for n in range(4)
    for name, layer in [
        ("atrous_conv", "convolution"),
        ("bn", "batch_norm"),
    ]
] + [
    (r"aspp\.global_avg_pool\.1", "pooled_branch/convolution"),
    (r"aspp\.global_avg_pool\.2", "pooled_branch/batch_norm"),
    (r"aspp\.conv1", "reduce/convolution"),
    (r"aspp\.bn1", "reduce/batch_norm"),
]
_DECODER = [
    (r"conv1", "low_level/convolution"),
    (r"bn1", "low_level/batch_norm"),
    (r"last_conv\.0", "merge/0/convolution"),
    (r"last_conv\.1", "merge/0/batch_norm"),
    (r"last_conv\.4", "merge/1/convolution"),
    (r"last_conv\.5", "merge/1/batch_norm"),
]

RULES = (
    base.prefixed(resnet.RULES, "encoder.backbone", "encoder")
    + base.prefixed(_POOLING, "encoder", "decoder/pooling")
    + base.prefixed(_DECODER, "encoder.decoder", "decoder")
    + cct.encoder("encoder", "decoder/pyramid")
    + [(r"classifier(?:\.1)?", "decoder/classifier")]
)
DROPPED = [r"project\.[02]"]
