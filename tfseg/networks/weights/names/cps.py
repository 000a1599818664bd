# SPDX-License-Identifier: Apache-2.0
"""Names in a checkpoint of CPS (TorchSemiSeg, key "model") -> ours.

It holds two networks of one form, `branch1` and `branch2`, each the default
`deeplab_v3_plus`. RULES take the first, which is the one that is evaluated;
`branch` gives the rules for either.
"""

from tfseg.networks.weights.names import base, resnet

_HEAD = [
    (r"head\.aspp\.map_convs\.(\d)", r"pooling/branches/\1"),
    (r"head\.aspp\.map_bn", "pooling/branch_norm"),
    (
        r"head\.aspp\.global_pooling_conv",
        "pooling/pooled_branch/convolution",
    ),
    (r"head\.aspp\.global_pooling_bn", "pooling/pooled_branch/batch_norm"),
    (r"head\.aspp\.red_conv", "pooling/reduce"),
    (r"head\.aspp\.pool_red_conv", "pooling/reduce_pooled"),
    (r"head\.aspp\.red_bn", "pooling/sum_norm"),
    (r"head\.reduce\.0", "low_level/convolution"),
    (r"head\.reduce\.1", "low_level/batch_norm"),
    (r"head\.last_conv\.0", "merge/0/convolution"),
    (r"head\.last_conv\.1", "merge/0/batch_norm"),
    (r"head\.last_conv\.3", "merge/1/convolution"),
    (r"head\.last_conv\.4", "merge/1/batch_norm"),
    (r"classifier", "classifier"),
]


def branch(name):
    """Rules for one of the two networks.

    Args:
      name: "branch1" or "branch2".
    """
    encoder = base.prefixed(resnet.RULES, f"{name}.backbone", "encoder")
    return encoder + base.prefixed(_HEAD, name, "decoder")


RULES = branch("branch1")
DROPPED = [r"branch2\..*"]
