# SPDX-License-Identifier: Apache-2.0
"""CPS and its relatives: losses in numpy, official values, invariants."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tests.methods import contract_test as contract
from tests.methods import shared
from tfseg.methods.families import supervision
from tfseg.ops import losses

NAMES = ["cps", "cps_cutmix", "cpc", "sps", "sps_cutmix"]


def _log_softmax(logits):
    top = logits - logits.max(-1, keepdims=True)
    return top - np.log(np.exp(top).sum(-1, keepdims=True))


def _cross_entropy(logits, label, mask):
    """Mean over the pixels of the mask, in numpy."""
    picked = np.take_along_axis(
        _log_softmax(logits), np.where(mask, label, 0)[..., None], -1
    )[..., 0]
    return -picked[mask].mean()


@functools.lru_cache(maxsize=None)
def _built(name):
    return shared.Shared(name, contract.make(name))


class _Fixed:
    """A network whose logits are what the image says, times a weight."""

    num_classes = 4

    def __init__(self, logits):
        self.logits = {key: tf.Variable(value) for key, value in logits.items()}

    def __call__(self, image, training):
        return self.logits[int(image[0, 0, 0, 0])]


def test_losses_and_gradients_are_the_official_ones(monkeypatch):
    data = golden.load("cps_loss")
    shape = data["sup_l"].shape[:3]
    images = [tf.fill([*shape, 3], float(i)) for i in range(2)]
    networks = [
        _Fixed({0: data[f"sup_{side}"], 1: data[f"unsup_{side}"]})
        for side in "lr"
    ]
    method = _built("cps").begin()
    monkeypatch.setattr(method, "concatenate", True)
    valid = tf.ones(shape, tf.bool)
    label = tf.constant(data["gts"], tf.int32)
    count = tf.constant(float(np.prod(shape)))
    with tf.GradientTape(persistent=True) as tape:
        pairs = [method.predict_both(net, *images) for net in networks]
        pseudo = [
            [supervision.pseudo_label(z, valid) for z in pair] for pair in pairs
        ]
        terms = [
            losses.cross_entropy(pairs[0][i], pseudo[1][i], normalizer=count)
            + losses.cross_entropy(pairs[1][i], pseudo[0][i], normalizer=count)
            for i in range(2)
        ]
        cps = data["cps_weight"] * method.combine(terms, [count, count])
        num_valid = losses.num_valid(label)
        sup = [method.loss_sup(pair[0], label, num_valid) for pair in pairs]
        total = sup[0] + sup[1] + cps
    np.testing.assert_allclose(cps, data["cps_loss"], rtol=1e-5)
    np.testing.assert_allclose(sup[0], data["loss_sup_l"], rtol=1e-5)
    np.testing.assert_allclose(sup[1], data["loss_sup_r"], rtol=1e-5)
    for i, side in enumerate("lr"):
        np.testing.assert_array_equal(
            np.concatenate(pseudo[i]), data[f"argmax_{side}"]
        )
        gradients = tape.gradient(total, list(networks[i].logits.values()))
        for part, gradient in zip(("sup", "unsup"), gradients):
            np.testing.assert_allclose(
                gradient, data[f"grad_tot_{part}_{side}"], atol=1e-7
            )


def test_mixed_pseudo_labels_and_loss_are_the_official_ones():
    data = golden.load("cps_loss")
    method = _built("cps_cutmix").begin()
    mask = data["cm_mask"]
    valid = tf.ones(mask.shape[:3], tf.bool)
    count = float(np.prod(mask.shape[:3]))
    # Neighbors are partners: rows u0[0], u1[0], u0[1], u1[1].
    order = np.array([0, 2, 1, 3])
    pseudo, total = [], 0.0
    for side in (1, 2):
        both = np.concatenate(
            [data[f"cm_tea{side}_u0"], data[f"cm_tea{side}_u1"]]
        )[order]
        found = method.mixed_pseudo_label(
            lambda image, training, z=both: tf.constant(z), None, mask, valid
        )
        np.testing.assert_array_equal(found, data[f"cm_pseudo{side}"])
        pseudo.append(found)
    for side, label in ((1, pseudo[1]), (2, pseudo[0])):
        total += losses.cross_entropy(
            data[f"cm_stu{side}"], label, normalizer=count
        )
    np.testing.assert_allclose(total, data["cm_loss"], rtol=1e-5)


@pytest.mark.parametrize("concatenate", [False, True])
@pytest.mark.parametrize("count_padding", [False, True])
def test_cps_step_agrees_with_numpy(concatenate, count_padding, monkeypatch):
    method = _built("cps").begin()
    monkeypatch.setattr(method, "concatenate", concatenate)
    monkeypatch.setattr(method, "count_padding", count_padding)
    batch = contract.batch_of(method)
    parts = [batch["labeled"], batch["unlabeled"]]
    terms, counts = [], []
    for part in parts:
        z1 = method.network1(part["image"]).numpy()
        z2 = method.network2(part["image"]).numpy()
        mask = part["valid"] | count_padding
        counts.append(mask.sum())
        terms.append(
            _cross_entropy(z1, z2.argmax(-1), mask)
            + _cross_entropy(z2, z1.argmax(-1), mask)
        )
    expected = sum(terms)
    if concatenate:
        expected = np.average(terms, weights=counts)
    label = batch["labeled"]["label"]
    sup = sum(
        _cross_entropy(net(parts[0]["image"]).numpy(), label, label != 255)
        for net in (method.network1, method.network2)
    )
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_unsup"], expected, rtol=1e-4)
    np.testing.assert_allclose(logs["loss_sup"], sup, rtol=1e-4)
    np.testing.assert_allclose(
        logs["loss"],
        logs["loss_sup"] + method.unsup_weight * logs["loss_unsup"],
        rtol=1e-6,
    )


def test_cpc_step_agrees_with_numpy():
    method = _built("cpc").begin()
    batch = contract.batch_of(method)
    total, count = 0.0, 0
    for part in (batch["labeled"], batch["unlabeled"]):
        p1, p2 = (
            np.exp(_log_softmax(net(part["image"]).numpy()))
            for net in (method.network1, method.network2)
        )
        total += 2 * ((p1 - p2) ** 2).sum(-1)[part["valid"]].sum()
        count += part["valid"].sum()
    logs = contract.step(method, batch)
    np.testing.assert_allclose(logs["loss_unsup"], total / count, rtol=1e-4)


def test_equal_networks_have_no_cpc_and_overlap_whole():
    method = _built("cpc").begin()
    for a, b in zip(method.network1.variables, method.network2.variables):
        b.assign(a)
    logs = contract.step(method, contract.batch_of(method))
    assert float(logs["loss_unsup"]) == 0 and float(logs["overlap"]) == 1


@pytest.mark.parametrize("name", ["cps", "cps_cutmix", "cpc"])
def test_networks_begin_differently_and_may_be_swapped(name):
    method = _built(name).begin()
    batch = contract.batch_of(method)
    logs = [contract.step(method, batch)]
    first = contract.values(method.network1)
    method = _built(name).begin()
    pairs = list(zip(method.network1.variables, method.network2.variables))
    assert any(np.any(a.numpy() != b.numpy()) for a, b in pairs)
    for a, b in pairs:
        a_value = a.numpy()
        a.assign(b)
        b.assign(a_value)
    logs.append(contract.step(method, batch))
    for key in logs[0]:
        np.testing.assert_allclose(logs[0][key], logs[1][key], rtol=1e-5)
    for a, b in zip(first, method.network2.variables):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@functools.lru_cache(maxsize=None)
def _supervised():
    """Values after two steps on labels alone."""
    supervised = contract.make("supervised")
    contract.fit(supervised, 2)
    return contract.values(supervised.student)


@pytest.mark.parametrize("name", NAMES)
def test_without_weight_a_network_learns_as_supervised(name):
    method = contract.make(name, unsup_weight=0.0)
    contract.fit(method, 2)
    network = contract.trained_network(method)
    for a, b in zip(contract.values(network), _supervised()):
        np.testing.assert_array_equal(a, b)


def test_pseudo_labels_get_no_gradient():
    method = _built("cps").begin()
    image = tf.constant(contract.batch_of(method)["unlabeled"]["image"])
    valid = tf.ones(image.shape[:3], tf.bool)
    with tf.GradientTape() as tape:
        label = supervision.pseudo_label(method.network1(image), valid)
        loss = losses.cross_entropy(method.network2(image), label)
    gradients = tape.gradient(loss, method.network1.trainable_variables)
    assert all(gradient is None for gradient in gradients)


def test_terms_can_be_left_out(monkeypatch):
    losses_of_terms = []
    for labeled, unlabeled in ((True, True), (True, False), (False, True)):
        method = _built("cps").begin()
        monkeypatch.setattr(method, "labeled_term", labeled)
        monkeypatch.setattr(method, "unlabeled_term", unlabeled)
        logs = contract.step(method, contract.batch_of(method))
        losses_of_terms.append(logs["loss_unsup"])
    whole, *parts = losses_of_terms
    np.testing.assert_allclose(whole, sum(parts), rtol=1e-6)
    with pytest.raises(ValueError, match="labeled_term"):
        contract.make("cpc", labeled_term=False, unlabeled_term=False)


def test_options_are_the_attributes_that_these_tests_set():
    changes = {
        "concatenate": True,
        "count_padding": True,
        "labeled_term": False,
        "unlabeled_term": True,
    }
    for values in (changes, {k: not v for k, v in changes.items()}):
        method = contract.make("cps", **values)
        assert {name: getattr(method, name) for name in values} == values


def test_ohem_keeps_the_hard_pixels_of_a_batch():
    method = contract.make(
        "cps", supervised="ohem", ohem_threshold=0.2, ohem_min_kept=10
    )
    batch = contract.batch_of(method)
    label = tf.constant(batch["labeled"]["label"])
    logits = method.network1(batch["labeled"]["image"])
    found = method.loss_sup(logits, label, losses.num_valid(label))
    expected = losses.ohem_cross_entropy(
        logits, label, threshold=0.2, min_kept=10 * contract.BATCH
    )
    np.testing.assert_array_equal(found, expected)
    assert float(found) > float(losses.cross_entropy(logits, label))
