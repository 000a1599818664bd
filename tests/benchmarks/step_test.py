# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from configs import (
    consistency,
    context_aware,
    cross_consistency,
    cross_supervision,
    weak_labels,
)
from tfseg import lookup
from tfseg.benchmarks import step

FCN = {"name": "fcn", "width": 4}


@pytest.mark.parametrize("name", ["cutmix", "vat", "pi_model"])
def test_step_is_a_step_of_the_method_with_its_callbacks(name):
    method = step.build_method(FCN, consistency.get(name))
    batch = step.examples(method, 2, 4, 16)
    view = next(iter(batch["unlabeled"].values()))
    assert batch["labeled"]["label"].shape == (2, 16, 16)
    assert view.shape[0] == 4
    take = step.Step(method)
    before = method.deployed.trainable_variables[0].numpy()
    assert np.isfinite(take(batch))
    assert int(method.step.numpy()) == 1 and float(method.ramp.numpy()) == 1
    # The deployed network is a teacher, which its callback moves.
    assert np.any(before != method.deployed.trainable_variables[0].numpy())


@pytest.mark.parametrize(
    "options",
    [
        cross_supervision.get("cps"),
        context_aware.get("cac"),
        weak_labels.get("image_classifier"),
        {**cross_consistency.get("cct_domains"), "decoders": {"f_drop": 1}},
        {
            **cross_consistency.get("cct"),
            "decoders": {"f_drop": 1},
            "weak_weight": 0.4,
        },
    ],
    ids=lambda options: options["name"],
)
def test_a_batch_is_what_the_method_takes(options):
    method = step.build_method(FCN, options)
    take = step.Step(method)
    assert np.isfinite(take(step.examples(method, 1, 2, 16)))


def test_bare_passes_run():
    network = step.base.build_network(FCN)
    passes = ["train 3", "forward 2", "input 1", "decoder 2", "decoder_input 1"]
    functions = step.bare_passes(network, passes, 16)
    results = [function() for function in functions.values()]
    assert results[0].shape == () and results[2].shape == (1, 16, 16, 3)
    assert results[1].shape == (2, 16, 16, step.base.NUM_CLASSES)
    assert np.any(results[2] != 0)
    decoder, decoder_input = results[3:]
    assert decoder.shape[0] == 2 and np.any(decoder != 0)
    assert decoder_input.shape == (1, *decoder.shape[1:])


def test_compiled_by_xla():
    options = {"cutmix": consistency.get("cutmix")}
    (record,) = step.run(
        networks={"small": FCN},
        methods=options,
        size=16,
        batch=1,
        xla=(True,),
        repeats=2,
    )
    assert record["case"] == "cutmix, XLA" and record["xla"]
    assert record["passes"] == {"train 2": 1, "forward 2": 1}
    assert record["traces"] == 1 and record["callbacks_share"] > 0


def test_record():
    options = {"supervised": {"name": "supervised"}}
    (record,) = step.run(
        networks={"small": FCN}, methods=options, size=16, batch=1, repeats=2
    )
    assert record["case"] == "supervised" and record["passes"] == {"train 1": 1}
    assert record["ratio"] > 0 and set(step.COLUMNS) < set(record)
    assert 0 <= record["callbacks_share"] < 1 and not record["xla"]
    assert lookup.module("benchmarks", "step") is step
