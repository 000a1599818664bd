# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.methods import contract_test as contract
from tests.methods import shared
from tfseg import lookup
from tfseg.methods.families import feature_perturbations
from tfseg.networks import base, cct
from tfseg.ops import cross_consistency

ALL = {kind: 1 for kind in feature_perturbations.KINDS}
# Of the kinds that cost least.
FEW = {"drop_out": 1, "f_drop": 1}


def make(sub_pixel=False, **changes):
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


@functools.lru_cache(maxsize=None)
def _built(sub_pixel, few=False):
    """A method with decoders of all or FEW kinds, which no test changes.

    To build it and to run its operations once takes longer than the tests,
    which set its options as attributes, by `monkeypatch`.
    """
    decoders = FEW if few else ALL
    return make(sub_pixel, decoders=decoders, weak_weight=0.4)


@pytest.fixture(name="plain", scope="module")
def _plain():
    """Begins a method without weak labels anew."""
    return shared.Shared("cct", make(decoders=ALL))


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


def _variables(decoders):
    return [v for decoder in decoders for v in decoder.trainable_variables]


def with_labels(batch, missing=0.4):
    """The unlabeled images have weak labels, padding and some others none."""
    draw = np.random.default_rng(5)
    shape = batch["unlabeled"]["valid"].shape
    known = batch["unlabeled"]["valid"] & (draw.uniform(size=shape) > missing)
    label = draw.integers(0, contract.CLASSES, shape)
    label = np.where(known, label, 255).astype(np.int32)
    unlabeled = {**batch["unlabeled"], "label": label}
    return {**batch, "unlabeled": unlabeled}


def _softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _counted(valid, size):
    step = size // valid.shape[1]
    return valid.repeat(step, 1).repeat(step, 2)


def _losses(method, batch):
    """(weighted sum, {name: loss})."""
    unlabeled = tf.nest.map_structure(tf.constant, batch["unlabeled"])
    return method.auxiliary_losses(
        method.auxiliary,
        *_seen(method, batch)[:2],
        unlabeled["valid"],
        unlabeled.get("label"),
    )


@pytest.mark.parametrize(
    "sub_pixel, over_classes, threshold",
    [
        (False, False, None),
        (False, True, None),
        (True, False, None),
        (True, True, None),
        # Of uncertain pixels nothing is learned.
        (False, False, 0.5),
    ],
)
def test_loss_is_the_mean_over_decoders_and_counted_pixels(
    sub_pixel, over_classes, threshold, monkeypatch
):
    method = _built(sub_pixel)
    monkeypatch.setattr(method, "over_classes", over_classes)
    monkeypatch.setattr(method, "threshold", threshold)
    batch = contract.batch_of(method)
    features, main, drawn = _seen(method, batch)
    target = _softmax(main.numpy().astype(np.float64))
    counted = _counted(batch["unlabeled"]["valid"], main.shape[1])
    if threshold:
        counted &= target.max(-1) > threshold
        assert 0 < counted.mean() < batch["unlabeled"]["valid"].mean()
    total = 0.0
    for decoder, perturbation in zip(method.auxiliary, drawn):
        logits = method.look(decoder, perturbation, features).numpy()
        squares = ((_softmax(logits) - target) ** 2).sum(-1)
        total += squares[counted].mean() / len(drawn)
    total /= contract.CLASSES if over_classes else 1
    rtol = 1e-4 if threshold else 2e-4
    np.testing.assert_allclose(
        _losses(method, batch)[1]["loss_unsup"], total, rtol=rtol
    )
    if threshold:
        monkeypatch.setattr(method, "threshold", 1.0)
        assert float(_losses(method, batch)[1]["loss_unsup"]) == 0


@pytest.mark.parametrize("distance", cross_consistency.NAMES)
def test_both_ways_agree_in_loss_and_gradients(distance, monkeypatch):
    method = _built(True)
    monkeypatch.setattr(method, "distance", distance)
    batch = with_labels(contract.batch_of(method))
    features, main, _ = _seen(method, batch)
    unlabeled = tf.nest.map_structure(tf.constant, batch["unlabeled"])
    results = []
    for way in (method.sub_pixel_losses, method.streamed_losses):
        with tf.GradientTape() as tape:
            tape.watch(features["stride1"])
            seen = method.see(
                features, main, unlabeled["valid"], unlabeled["label"], method
            )
            total, terms = way(method.auxiliary, seen)
        sources = [features["stride1"], *_variables(method.auxiliary)]
        results.append([total, *terms, *tape.gradient(total, sources)])
    for fast, slow in zip(*results):
        np.testing.assert_allclose(
            fast, slow, rtol=2e-3, atol=2e-5 * np.abs(slow).max() + 1e-9
        )


@pytest.mark.parametrize("weights", [(30.0, 0.0), (30.0, 0.4), (0.0, 0.4)])
@pytest.mark.parametrize("sub_pixel", [False, True])
def test_the_main_decoder_learns_from_labels_alone(
    sub_pixel, weights, monkeypatch
):
    method = _built(sub_pixel, few=weights[1] > 0)
    monkeypatch.setattr(method, "unsup_weight", weights[0])
    monkeypatch.setattr(method, "weak_weight", weights[1])
    batch = contract.batch_of(method)
    if method.weak_weight:
        batch = with_labels(batch)
    student = method.student
    unlabeled = tf.nest.map_structure(tf.constant, batch["unlabeled"])
    with tf.GradientTape() as tape:
        features = student.encoder(unlabeled["image"], training=True)
        main = student.decoder.logits(student.decoder.embed(features))
        loss, _ = method.auxiliary_losses(
            method.auxiliary,
            features,
            tf.stop_gradient(main),
            unlabeled["valid"],
            unlabeled.get("label"),
        )
    main, encoder, auxiliary = tape.gradient(
        loss,
        [
            student.decoder.trainable_variables,
            student.encoder.trainable_variables,
            [d.trainable_variables for d in method.auxiliary],
        ],
    )
    assert main == [None] * len(main)
    assert all(np.abs(g).max() > 0 for g in encoder)
    assert all(np.abs(g[-1]).max() > 0 for g in auxiliary)


def test_with_nothing_to_learn_of_images_it_is_supervised_training(
    plain, monkeypatch
):
    """Weight 0, and images that are all padding, bit for bit."""
    supervised = contract.make("supervised")
    batch = contract.batch_of(plain.begin())
    contract.step(supervised, batch)
    for part in ("weight", "valid"):
        method = plain.begin()
        assert "loss_weak" not in method.SCALARS
        with monkeypatch.context() as patch:
            if part == "weight":
                patch.setattr(method, "unsup_weight", 0.0)
            else:
                batch["unlabeled"]["valid"][:] = False
            contract.step(method, batch)
        for a, b in zip(
            contract.values(method.student),
            contract.values(supervised.student),
        ):
            np.testing.assert_array_equal(a, b, part)


@pytest.mark.parametrize("pairwise_weight", [0.0, 1.0])
@pytest.mark.parametrize("sub_pixel", [False, True])
def test_weak_labels_teach_the_auxiliary_decoders(
    sub_pixel, pairwise_weight, monkeypatch
):
    method = _built(sub_pixel)
    monkeypatch.setattr(method, "pairwise_weight", pairwise_weight)
    batch = with_labels(contract.batch_of(method))
    features, main, drawn = _seen(method, batch)
    label = _counted(batch["unlabeled"]["label"], main.shape[1])
    known = label != 255
    assert 0.2 < known.mean() < 0.8
    expected = 0.0
    for decoder, perturbation in zip(method.auxiliary, drawn):
        prob = _softmax(
            method.look(decoder, perturbation, features).numpy().astype(float)
        )
        true = np.take_along_axis(
            prob, np.where(known, label, 0)[..., None], -1
        )
        expected -= np.log(true[..., 0][known]).mean() / len(drawn)
    total, terms = _losses(method, batch)
    np.testing.assert_allclose(terms["loss_weak"], expected, rtol=2e-4)
    unsup = method.unsup_weight * terms["loss_unsup"]
    weighted = unsup + 0.4 * terms["loss_weak"]
    np.testing.assert_allclose(total, weighted, rtol=1e-5)


@pytest.mark.parametrize("sub_pixel", [False, True])
def test_images_without_labels_give_no_weak_loss(sub_pixel):
    method = _built(sub_pixel, few=True)
    batch = contract.batch_of(method)
    found = []
    for each in (batch, with_labels(batch, missing=1.0)):
        with tf.GradientTape() as tape:
            total, terms = _losses(method, each)
        found.append(
            [total, *tape.gradient(total, _variables(method.auxiliary))]
        )
    assert float(terms["loss_weak"]) == 0
    for plain, unlabeled in zip(*found):
        np.testing.assert_array_equal(plain, unlabeled)


def test_pairwise_loss_reaches_the_gradient():
    """As of all outputs at once, of which the same ones are chosen."""
    kinds = {"drop_out": 2, "f_noise": 2, "con_msk": 1}
    method = make(decoders=kinds, pairwise_weight=3.0, pairwise_outputs=3)
    batch = contract.batch_of(method)
    features, main, drawn = _seen(method, batch)
    counted = tf.constant(batch["unlabeled"]["valid"], tf.float32)
    valid = tf.constant(batch["unlabeled"]["valid"])
    sources = [*_variables(method.auxiliary), features["stride1"]]

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
        total, _ = method.auxiliary_losses(
            method.auxiliary, features, main, valid
        )
        return total / method.unsup_weight

    (loss, found), (expected, wanted) = gradients(ours), gradients(naive)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_labeled_loss_takes_what_is_not_yet_learned():
    method = make(
        decoders=FEW,
        supervised="bootstrapped",
        bootstrap_steps=10,
        bootstrap_threshold=0.5,
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
    method = make(decoders={"drop_out": 2, "g_cutout": 2})
    batch = contract.batch_of(method)
    _, _, first = _seen(method, batch)
    method.step.assign_add(1)
    _, _, second = _seen(method, batch)
    masks = [p.mask.numpy().tobytes() for p in (*first, *second)]
    assert len(set(masks[:2])) == 2 and masks[0] != masks[4]


def test_options_are_the_attributes_that_these_tests_set():
    changes = {
        "distance": "js",
        "over_classes": True,
        "pairwise_weight": 1.0,
        "unsup_weight": 2.0,
        "weak_weight": 0.2,
        "threshold": 0.7,
    }
    method = make(decoders=FEW, confidence_masking=True, **changes)
    assert {name: getattr(method, name) for name in changes} == changes
    assert _built(False).threshold is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"decoders": {"f_drp": 1}}, "decoders.f_drp.*Did you mean 'f_drop'"),
        ({"decoders": {"f_drop": 0}}, "at least one decoder"),
        ({"decoders": {"f_drop": -1}}, "decoders.f_drop` must be 0 or more"),
        ({"perturbations": {"eras": 1}}, "perturbations.eras.*mean 'erase'"),
        ({"weak_weight": -0.4}, "weak_weight` must be 0 or more"),
        ({"distance": "l2"}, "`config.method.distance` must be one of"),
    ],
)
def test_bad_option_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        contract.make("cct", **changes)
