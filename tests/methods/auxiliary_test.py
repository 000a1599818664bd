# SPDX-License-Identifier: Apache-2.0
"""BatchNorm in the auxiliary decoders of cross-consistency training."""

import numpy as np
import pytest
import tensorflow as tf

from configs import cross_consistency as configs
from tests.methods import contract_test as contract
from tfseg import lookup, optimizers
from tfseg import strategy as strategies
from tfseg.methods.families import cross_consistency
from tfseg.networks import fcn

FEW = {"i_vat": 1, "drop_out": 1}


def make(replicas=1, synchronized=False, **changes):
    """CCT on a network whose decoder has BatchNorm."""
    options = configs.get("cct") | changes
    del options["name"]
    with strategies.build("mirrored", replicas=replicas).scope():
        method = lookup.module("methods", "cct").build(
            lambda: fcn.build(
                num_classes=contract.CLASSES,
                width=4,
                batch_norm={"synchronized": synchronized},
            ),
            seed=7,
            **options,
        )
        method.compile(
            optimizers.build(
                "sgd", learning_rate=0.01, coupled_weight_decay=True
            )
        )
        method.optimizer.build(method.trained)
    method.ramp.assign(1.0)
    return method


def _copies(method):
    """Values of the variables that each replica holds on its own."""
    strategy = method.distribute_strategy
    return [
        [part.numpy() for part in strategy.experimental_local_results(variable)]
        for decoder in method.auxiliary
        for variable in decoder.non_trainable_variables
    ]


def test_a_run_that_goes_on_after_a_save_equals_a_resumed_one(tmp_path):
    """I-VAT takes the moving statistics: they must be those of the save."""
    method = make(replicas=2, decoders=FEW)
    contract.fit(method, 1)
    assert any((first != second).any() for first, second in _copies(method))
    method.synchronize_statistics()
    for first, second in _copies(method):
        np.testing.assert_array_equal(first, second)
    checkpoint = tf.train.Checkpoint(method=method, optimizer=method.optimizer)
    path = checkpoint.save(str(tmp_path / "ckpt"))
    found = []
    for _ in range(2):
        contract.fit(method, 2, first=1)
        found.append([v.numpy() for v in method.trained])
        checkpoint.restore(path)
    for on, resumed in zip(*found):
        np.testing.assert_array_equal(on, resumed)


def test_weights_of_auxiliary_decoders_that_are_not_finite_are_found():
    method = make(decoders=FEW)
    method.raise_if_not_finite()
    for variable in method.auxiliary[1].trainable_variables[-1:]:
        variable.assign(np.nan * variable)
    with pytest.raises(FloatingPointError, match="is not finite"):
        method.raise_if_not_finite()


def _loss(method, image):
    """(loss, norm of its gradient, moving statistics after it) in a graph."""

    @tf.function(autograph=False)
    def step():
        features = method.encoder(image, training=True)
        main = cross_consistency.predict(method.student.decoder, features)
        valid = tf.ones(image.shape[:3], bool)
        with tf.GradientTape() as tape:
            total, _ = method.auxiliary_losses(
                method.auxiliary, features, main, valid
            )
        variables = method.auxiliary[0].trainable_variables
        return total, tf.linalg.global_norm(tape.gradient(total, variables))

    loss, norm = method.distribute_strategy.run(step)
    return float(loss), float(norm), _copies(method)


@pytest.mark.parametrize("outputs, synchronized", [(2, False), (3, True)])
def test_equal_decoders_have_no_pairwise_loss(outputs, synchronized):
    """Their predictions are one, and their statistics move once."""
    draw = np.random.default_rng(0)
    image = tf.constant(draw.uniform(0, 255, (2, 8, 8, 3)), tf.float32)
    perturbations = configs.get("cct")["perturbations"]
    method = make(
        synchronized=synchronized,
        decoders={"drop_out": 3},
        perturbations=perturbations | {"drop_rate": 0.0},
        pairwise_outputs=outputs,
        unsup_weight=1.0,
    )
    found = []
    for weight in (0.0, 1.0):
        method.pairwise_weight = weight
        method.student.set_weights(
            [_draw_like(v, i) for i, v in enumerate(method.student.weights)]
        )
        for decoder in method.auxiliary:
            decoder.set_weights(method.student.decoder.get_weights())
        found.append(_loss(method, image))
    (_, _, plain), (loss, norm, moved) = found
    np.testing.assert_allclose([loss, norm], 0, atol=1e-6)
    np.testing.assert_allclose(
        np.concatenate([np.ravel(x) for x in moved]),
        np.concatenate([np.ravel(x) for x in plain]),
        rtol=1e-5,
    )


def _draw_like(variable, seed):
    """Values above 0, as a variance must be."""
    draw = np.random.default_rng(seed)
    return draw.uniform(0.1, 0.5, variable.shape).astype(np.float32)
