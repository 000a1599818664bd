# SPDX-License-Identifier: Apache-2.0
"""torchvision's DenseNets -> `encoders.densenet`, and all of `dense_unet`.

Old files write "denselayer1.norm.1" for what is "denselayer1.norm1" now. The
whole network is that of French et al. (cutmix-semisup-seg, architectures/
denseunet.py), which carries torchvision's classifier along.
"""

from tfseg.networks.weights.names import base

# Dense layers per stage of the deepest ones, DenseNet-161 and 201 together.
_LONGEST = (6, 12, 48, 32)

RULES = [
    (r"features\.conv0", "stem/convolution"),
    (r"features\.norm0", "stem/batch_norm"),
    *(
        (
            rf"features\.denseblock{stage + 1}\.denselayer{layer + 1}"
            r"\.(norm|conv)\.?([12])",
            rf"stages/{stage}/dense_layers/{layer}/\1\2",
        )
        for stage, layers in enumerate(_LONGEST)
        for layer in range(layers)
    ),
    *(
        (
            rf"features\.transition{stage}\.(norm|conv)",
            rf"stages/{stage}/transition/\1",
        )
        for stage in (1, 2, 3)
    ),
    (r"features\.norm5", "norm"),
]

DROPPED = [r"classifier"]

_DECODER = [
    (r"line0_conv", "widen"),
    (r"decoder_blocks\.(\d)\.conv", r"ups/\1/convolution"),
    (r"decoder_blocks\.(\d)\.conv_bn", r"ups/\1/batch_norm"),
    (r"final_dec_conv", "last"),
    (r"final_dec_bn", "last_norm"),
    (r"final_clf", "classifier"),
]
NETWORK_RULES = base.prefixed(RULES, "base_model", "encoder") + [
    (pattern, f"decoder/{path}") for pattern, path in _DECODER
]
NETWORK_DROPPED = [r"base_model\.classifier"]
