# SPDX-License-Identifier: Apache-2.0
"""Flags that say which trained run and which of its checkpoints.

A script adopts them, `flags.adopt_module_key_flags(run_flags)`, so that its
--help shows them.
"""

from absl import flags

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder that launch.train wrote.", required=True
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "best",
    "best (by validation mIoU), last, or the path of a checkpoint without "
    "its .index.",
)
NETWORK = flags.DEFINE_string(
    "network",
    "",
    "Which of the method's networks: teacher or student, ..., or the average "
    "of all. Default: the one that the method deploys.",
)
