# SPDX-License-Identifier: Apache-2.0
"""Ways to compute dilated convolutions, within a whole training step.

All cases of a network run in turn in one process. `ratio` is the time over
that of the native implementation in float32.
"""

import itertools

from tensorflow import keras

from tfseg.benchmarks import base
from tfseg.networks.layers import dilated

COLUMNS = ("seconds", "spread", "ratio", "peak_mib")
NETWORKS = ("deeplab_v3_plus",)


def run(
    *,
    networks,
    size=256,
    batch=4,
    precision=("float32", "mixed_bfloat16"),
    repeats=5,
):
    """Measures networks under every implementation and precision.

    Args:
      networks: dict, name of the case -> `config.network` that has
        `dilated_conv`.
      size: side of the images, pixels.
      batch: images in a step.
      precision: Keras policies besides float32.
      repeats: times that a step is timed.

    Yields:
      Records; `peak_mib` is that of all cases of a network together.
    """
    policies = dict.fromkeys(("float32", *precision))
    cases = list(itertools.product(policies, dilated.IMPLEMENTATIONS))
    for name, options in networks.items():
        result = base.fresh(measure, options, cases, size, batch, repeats)
        for (policy, implementation), record in zip(cases, result):
            yield {
                "case": f"{name}, {implementation}",
                "precision": policy,
                "size": size,
                "batch": batch,
                **record,
            }


def measure(options, cases, size, batch, repeats):
    """Records without their names; to be called in a fresh process."""
    image, label = base.examples(batch, size)
    steps = {}
    for policy, implementation in cases:
        keras.mixed_precision.set_global_policy(policy)
        model = base.build_network(options, dilated_conv=implementation)
        steps[policy, implementation] = base.training_step(model, image, label)
    times = base.seconds(steps, repeats)
    reference = times["float32", "native"]
    peak = base.peak_mib()
    return [
        {
            **base.summary(times[case]),
            "ratio": base.ratio(times[case], reference),
            "peak_mib": peak,
        }
        for case in cases
    ]
