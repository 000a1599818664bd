# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests.methods import contract_test as contract
from tfseg import lookup
from tfseg.methods.families import feature_perturbations
from tfseg.networks import base, cct
from tfseg.ops import cross_consistency

ALL = {kind: 1 for kind in feature_perturbations.KINDS}


def _make(sub_pixel=False, **changes):
    """A method on the network of the contract, or on one of CCT's form."""
    if not sub_pixel:
        method = contract.make("cct", **changes)
    else:
        options = {**contract.OPTIONS["cct"], **changes}
        method = lookup.module("methods", "cct").build(
            lambda: base.Network(
                contract.Encoder(norm=False),
                lambda: cct.Decoder(contract.CLASSES, "stride1", True),
                contract.CLASSES,
            ),
            seed=7,
            **options,
        )
    method.ramp.assign(1.0)
    return method


def _seen(method, batch):
    """(features, main logits, perturbations) of the unlabeled images."""
    image = tf.constant(batch["unlabeled"]["image"])
    features = method.student.encoder(image, training=True)
    decoder = method.student.decoder
    main = decoder.logits(decoder.embed(features))
    drawn = method.draw(
        method.kinds,
        features["stride1"],
        tf.argmax(main, -1, output_type=tf.int32),
        method,
    )
    return features, main, drawn


def _softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _counted(valid, size):
    step = size // valid.shape[1]
    return valid.repeat(step, 1).repeat(step, 2)


def _loss(method, batch):
    return method.loss_unsup(
        *_seen(method, batch)[:2], tf.constant(batch["unlabeled"]["valid"])
    )


@pytest.mark.parametrize("over_classes", [False, True])
@pytest.mark.parametrize("sub_pixel", [False, True])
def test_loss_is_the_mean_over_decoders_and_counted_pixels(
    sub_pixel, over_classes
):
    method = _make(sub_pixel, decoders=ALL, over_classes=over_classes)
    batch = contract.batch_of(method)
    features, main, drawn = _seen(method, batch)
    target = _softmax(main.numpy().astype(np.float64))
    counted = _counted(batch["unlabeled"]["valid"], main.shape[1])
    total = 0.0
    for decoder, perturbation in zip(method.auxiliary, drawn):
        logits = method.look(decoder, perturbation, features).numpy()
        squares = ((_softmax(logits) - target) ** 2).sum(-1)
        total += squares[counted].mean() / len(drawn)
    total /= contract.CLASSES if over_classes else 1
    np.testing.assert_allclose(_loss(method, batch), total, rtol=2e-4)


@pytest.mark.parametrize("distance", cross_consistency.NAMES)
def test_both_ways_agree_in_loss_and_gradients(distance):
    method = _make(True, decoders=ALL, distance=distance)
    batch = contract.batch_of(method)
    features, main, drawn = _seen(method, batch)
    counted = _counted(batch["unlabeled"]["valid"], main.shape[1])
    counted = tf.constant(counted, tf.float32)
    results = []
    for way in (method.sub_pixel_loss, method.streamed_loss):
        with tf.GradientTape() as tape:
            tape.watch(features["stride1"])
            loss = way(features, tf.nn.softmax(main), counted, drawn, 0.01)
        sources = [features["stride1"]] + [
            v for d in method.auxiliary for v in d.trainable_variables
        ]
        results.append([loss, *tape.gradient(loss, sources)])
    for fast, slow in zip(*results):
        np.testing.assert_allclose(
            fast, slow, rtol=2e-3, atol=2e-5 * np.abs(slow).max() + 1e-9
        )


@pytest.mark.parametrize("sub_pixel", [False, True])
def test_the_main_decoder_learns_from_labels_alone(sub_pixel):
    method = _make(sub_pixel, decoders=ALL)
    batch = contract.batch_of(method)
    student = method.student

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            image = batch["unlabeled"]["image"]
            features = student.encoder(image, training=True)
            main = student.decoder.logits(student.decoder.embed(features))
            valid = tf.constant(batch["unlabeled"]["valid"])
            loss = method.loss_unsup(features, tf.stop_gradient(main), valid)
        return tape.gradient(
            loss,
            [
                student.decoder.trainable_variables,
                student.encoder.trainable_variables,
                [d.trainable_variables for d in method.auxiliary],
            ],
        )

    main, encoder, auxiliary = gradients()
    assert main == [None] * len(main)
    assert all(np.abs(g).max() > 0 for g in encoder)
    assert all(np.abs(g[-1]).max() > 0 for g in auxiliary)


@pytest.mark.parametrize("part", ["weight", "valid"])
def test_with_nothing_to_learn_of_images_it_is_supervised_training(part):
    """Weight 0, and images that are all padding, bit for bit."""
    changes = {"unsup_weight": 0.0} if part == "weight" else {}
    method, plain = _make(**changes), contract.make("supervised")
    batch = contract.batch_of(method)
    if part == "valid":
        batch["unlabeled"]["valid"][:] = False
    for m in (method, plain):
        contract.step(m, batch)
    for a, b in zip(
        contract.values(method.student), contract.values(plain.student)
    ):
        np.testing.assert_array_equal(a, b)


def test_confidence_masking_leaves_uncertain_pixels_out():
    method = _make(decoders=ALL, confidence_masking=True, threshold=0.5)
    batch = contract.batch_of(method)
    features, main, drawn = _seen(method, batch)
    target = _softmax(main.numpy().astype(np.float64))
    counted = batch["unlabeled"]["valid"] & (target.max(-1) > 0.5)
    assert 0 < counted.mean() < batch["unlabeled"]["valid"].mean()
    total = 0.0
    for decoder, perturbation in zip(method.auxiliary, drawn):
        logits = method.look(decoder, perturbation, features).numpy()
        squares = ((_softmax(logits) - target) ** 2).sum(-1)
        total += squares[counted].mean() / len(drawn)
    np.testing.assert_allclose(_loss(method, batch), total, rtol=1e-4)
    method.threshold = 1.0
    assert float(_loss(method, batch)) == 0


def test_pairwise_loss_reaches_the_gradient():
    """As of all outputs at once, of which the same ones are chosen."""
    kinds = {"drop_out": 2, "f_noise": 2, "con_msk": 1}
    method = _make(decoders=kinds, pairwise_weight=3.0, pairwise_outputs=3)
    batch = contract.batch_of(method)
    features, main, drawn = _seen(method, batch)
    counted = tf.constant(batch["unlabeled"]["valid"], tf.float32)
    scale = 1.0 / tf.reduce_sum(counted)
    sources = [v for d in method.auxiliary for v in d.trainable_variables] + [
        features["stride1"]
    ]

    def gradients(loss):
        with tf.GradientTape() as tape:
            tape.watch(features["stride1"])
            value = loss()
        return value, tape.gradient(value, sources)

    def naive():
        logits = tf.stack(
            [
                method.look(*pair, features)
                for pair in zip(method.auxiliary, drawn)
            ]
        )
        target = tf.nn.softmax(main)
        distances = [
            cross_consistency.cross_consistency("mse", z, target, counted)
            for z in tf.unstack(logits)
        ]
        return tf.add_n(distances) / 5 + 3.0 * cross_consistency.pairwise(
            logits, method.step_seed(), counted, num_outputs=3
        )

    def ours():
        return method.streamed_loss(
            features, tf.nn.softmax(main), counted, drawn, scale
        )

    (loss, found), (expected, wanted) = gradients(ours), gradients(naive)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_labeled_loss_takes_what_is_not_yet_learned():
    method = _make(
        supervised="bootstrapped", bootstrap_steps=10, bootstrap_threshold=0.5
    )
    method.step.assign(5)
    batch = contract.batch_of(method)
    label = batch["labeled"]["label"]
    prob = _softmax(method.student(batch["labeled"]["image"]).numpy())
    true = np.take_along_axis(
        prob, np.where(label == 255, 0, label)[..., None], -1
    )[..., 0]
    least = 1 / contract.CLASSES
    threshold = least + (1 - np.exp(-2.5)) * (0.5 - least)
    kept = (label != 255) & (true < threshold)
    assert 0 < kept.sum() < (label != 255).sum()
    logs = contract.step(method, batch)
    np.testing.assert_allclose(
        logs["loss_sup"], -np.log(true[kept]).mean(), rtol=1e-5
    )


def test_draws_differ_between_steps_and_decoders():
    method = _make(decoders={"drop_out": 2, "g_cutout": 2})
    batch = contract.batch_of(method)
    _, _, first = _seen(method, batch)
    method.step.assign_add(1)
    _, _, second = _seen(method, batch)
    masks = [p.mask.numpy().tobytes() for p in (*first, *second)]
    assert len(set(masks[:2])) == 2 and masks[0] != masks[4]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"decoders": {"f_drp": 1}}, "decoders.f_drp.*Did you mean 'f_drop'"),
        ({"decoders": {"f_drop": 0}}, "at least one decoder"),
        ({"decoders": {"f_drop": -1}}, "decoders.f_drop` must be 0 or more"),
        ({"perturbations": {"eras": 1}}, "perturbations.eras.*mean 'erase'"),
        ({"distance": "l2"}, "`config.method.distance` must be one of"),
    ],
)
def test_bad_option_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        contract.make("cct", **changes)
