# SPDX-License-Identifier: Apache-2.0
"""Two domains: digits on paper and, odd or even, on a board; one encoder.

    python -m launch.prepare --dataset=digits --dir=data/digits
    python -m launch.prepare --dataset=board --dir=data/board
    python -m launch.train --config=configs/digits_cct_domains.py \
        --workdir=runs/digits_cct_domains
    python -m launch.evaluate --workdir=runs/digits_cct_domains

The network, the optimizer and the steps are those of `digits_supervised`; the
same arguments; the board is in --config.domains.board.dataset.dir. A step has
a batch of each domain and two updates; `labels` is the number in each. Without
the consistency (--config.method.unsup_weight=0) it is the baseline, with
--config.method.adversarial_weight=0.02 the domains are aligned. Not yet
measured.
"""

from configs import cross_consistency, digits_supervised


def get_config(arg=""):
    config = digits_supervised.get_config(arg)
    config.domains = {
        "board": {"dataset": {"name": "board", "dir": "data/board"}}
    }
    config.method = cross_consistency.get("cct_domains")
    for kind in config.method.decoders:
        config.method.decoders[kind] = 1
    config.method.ramp_steps = config.train.steps // 10
    return config
