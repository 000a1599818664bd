# SPDX-License-Identifier: Apache-2.0
"""The contract of a method, on two data sets of unequal classes, and more."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from configs import cross_consistency as presets
from tests.methods import contract_test as contract
from tests.methods import shared
from tfseg import optimizers
from tfseg import strategy as strategies
from tfseg.methods import cct, cct_domains
from tfseg.networks import base

CLASSES = {"paper": 3, "board": 4}
# Of the kinds that cost least.
KINDS = {"drop_out": 1, "f_noise": 1}
_one_batch = contract.batch_of
_FILTERS = cct_domains._FILTERS


class Decoder(base.Decoder):
    def __init__(self, num_classes, norm):
        super().__init__()
        self.norm = keras.layers.BatchNormalization() if norm else None
        self.classifier = keras.layers.Conv2D(num_classes, 1, dtype="float32")

    def embed(self, features, training=None):
        z = features["stride1"]
        return self.norm(z, training=training) if self.norm else z

    def logits(self, embedding, training=None):
        return self.classifier(embedding)


def _network(num_classes, norm):
    return base.Network(
        contract.Encoder(norm),
        functools.partial(Decoder, num_classes, norm),
        num_classes,
    )


def _options(name, **changes):
    options = presets.get(name)
    assert options.pop("name") == name
    options.update(decoders=KINDS, ramp_steps=0)
    return options | changes


def _make(replicas=1, norm=False, domains=tuple(CLASSES), **changes):
    strategy = strategies.build("mirrored", replicas=replicas)
    with strategy.scope():
        keras.utils.set_random_seed(1)
        builders = {
            name: functools.partial(_network, CLASSES[name], norm)
            for name in domains
        }
        method = cct_domains.build(
            builders, seed=7, **_options("cct_domains", **changes)
        )
        _compile(method)
    return method


@functools.lru_cache(maxsize=None)
def _built(adversarial_weight=0.0):
    made = _make(adversarial_weight=adversarial_weight)
    return shared.Shared("cct_domains", made)


def _begin(**changes):
    """What `_make` makes, if without BatchNorm; built once, begun anew."""
    method = _built(**changes).begin()
    method.ramp.assign(1.0)
    return method


def _compile(method):
    method.compile(
        optimizers.build(
            "sgd", learning_rate=0.1, momentum=0.9, coupled_weight_decay=True
        )
    )
    method.optimizer.build(method.trained)
    method.ramp.assign(1.0)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(contract, "batch_of", _batch_of)
    monkeypatch.setattr(cct_domains, "_FILTERS", (4, 8))
    yield
    keras.mixed_precision.set_global_policy("float32")


def _batch_of(method, seed=0):
    """Each domain has images and labels of its own."""
    domains = getattr(method, "domain_networks", {})
    return {
        domain: _one_batch(cct.CCT, seed + 100 * place)
        for place, domain in enumerate(domains)
    } or _one_batch(cct.CCT, seed)


def _step(method, batch=None):
    return contract.step(method, batch or _batch_of(method))


def _all_variables(method):
    parts = [*method.networks.values()]
    parts += [d for each in method.auxiliary.values() for d in each]
    parts += [method.discriminator] if method.discriminator else []
    return [v for part in parts for v in part.variables]


def _values(variables):
    return [variable.numpy() for variable in variables]


def _without_labels(part):
    """A batch of which nothing is left but padding."""
    empty = {key: dict(values) for key, values in part.items()}
    empty["labeled"]["label"] = np.full_like(part["labeled"]["label"], 255)
    for values in empty.values():
        values["valid"] = np.zeros_like(values["valid"])
    return empty


def _decoders_of(method, domain):
    parts = [method.networks[domain].decoder, *method.auxiliary[domain]]
    return [v for part in parts for v in part.variables]


def test_domains_share_the_encoder_and_nothing_else():
    method = _begin()
    assert method.updates_per_step == 2
    assert list(method.networks) == ["paper", "board"]
    paper, board = method.networks.values()
    assert method.deployed is paper and paper.encoder is board.encoder
    assert (paper.num_classes, board.num_classes) == (3, 4)
    own = [
        {v.ref() for v in _decoders_of(method, domain)} for domain in CLASSES
    ]
    assert own[0] and own[1] and not own[0] & own[1]
    refs = [variable.ref() for variable in method.trained]
    assert len(refs) == len(set(refs))
    encoder = paper.encoder.trainable_variables
    assert len(refs) == sum(map(len, own)) + len(encoder)
    image = np.zeros([1, 8, 8, 3], np.float32)
    assert board(image).shape == (1, 8, 8, 4)


def test_one_domain_is_plain_cct():
    ours = _make(domains=("paper",), norm=True)
    keras.utils.set_random_seed(1)
    plain = cct.build(
        functools.partial(_network, 3, True), seed=7, **_options("cct")
    )
    _compile(plain)
    assert ours.updates_per_step == 1
    for seed in range(2):
        logs = _step(ours, _batch_of(ours, seed)), contract.step(
            plain, _batch_of(plain, seed)
        )
        for name in plain.SCALARS:
            assert float(logs[0][name]) == float(logs[1][name]), name
    assert len(ours.trained) == len(plain.trained)
    for a, b in zip(
        [*ours.trained, *ours.deployed.variables],
        [*plain.trained, *plain.student.variables],
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("trained, still", [CLASSES, tuple(CLASSES)[::-1]])
def test_update_of_a_domain_leaves_the_other_decoders(trained, still):
    method = _begin()
    batch = _batch_of(method)
    batch[still] = _without_labels(batch[still])
    encoder = method.encoder.variables
    before = [
        _values(v)
        for v in (
            _decoders_of(method, trained),
            _decoders_of(method, still),
            encoder,
        )
    ]
    logs = _step(method, batch)
    assert float(logs[f"loss/{still}"]) == 0 < float(logs[f"loss/{trained}"])
    for old, new in zip(before[1], _values(_decoders_of(method, still))):
        np.testing.assert_array_equal(old, new)
    for old, new in zip(before[0], _values(_decoders_of(method, trained))):
        assert (old != new).any()
    for old, new in zip(before[2], _values(encoder)):
        assert (old != new).any()
    assert method.optimizer.iterations.numpy() == 2


def test_domains_take_turns_in_their_order():
    """A round is a step of each domain alone, after the one before."""
    method, alone = _begin(), _make()
    batch = _batch_of(method)
    logs = _step(method, batch)
    for place, domain in enumerate(CLASSES):
        part = tf.nest.map_structure(tf.constant, batch[domain])
        network, decoders = alone.networks[domain], alone.auxiliary[domain]
        with tf.GradientTape() as tape:
            logits = network(part["labeled"]["image"], training=True)
            loss = alone.loss_sup(logits, part["labeled"]["label"])
            features = network.encoder(
                part["unlabeled"]["image"], training=True
            )
            main = network.decoder.logits(network.decoder.embed(features))
            loss += alone.auxiliary_losses(
                decoders,
                features,
                tf.stop_gradient(main),
                part["unlabeled"]["valid"],
                source=cct_domains._Turn(alone, place),
            )[0]
        np.testing.assert_allclose(logs[f"loss/{domain}"], loss, rtol=1e-6)
        alone.minimize(loss, tape, alone.trained_by(domain))
    for a, b in zip(method.trained, alone.trained):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_reported_are_the_domains_and_their_mean():
    method = _begin(adversarial_weight=0.02)
    logs = _step(method)
    assert list(logs) == list(method.SCALARS)
    for name in ("loss", "loss_sup", "loss_unsup", "loss_adversarial"):
        each = [float(logs[f"{name}/{domain}"]) for domain in CLASSES]
        assert each[0] != each[1] and all(np.isfinite(each))
        np.testing.assert_allclose(logs[name], np.mean(each), rtol=1e-6)
    for domain in CLASSES:
        found = {
            name: float(logs[f"{name}/{domain}"])
            for name in ("loss", "loss_sup", "loss_unsup", "loss_adversarial")
        }
        np.testing.assert_allclose(
            found["loss"],
            found["loss_sup"]
            + 30.0 * found["loss_unsup"]
            + 0.02 * found["loss_adversarial"],
            rtol=1e-6,
        )


def test_draws_differ_between_domains_and_steps():
    method = _begin()
    seeds = []
    for _ in range(2):
        for place in range(2):
            seeds.append(tuple(cct_domains._Turn(method, place).step_seed()))
        method.step.assign_add(1)
    assert len({tuple(map(int, seed)) for seed in seeds}) == 4


def test_discriminator_is_that_of_the_table(monkeypatch):
    monkeypatch.setattr(cct_domains, "_FILTERS", _FILTERS)
    method = _make(adversarial_weight=0.02)
    shapes = [tuple(v.shape) for v in method.discriminator.variables[::2]]
    assert shapes == [
        (3, 3, 8, 64),
        (3, 3, 64, 128),
        (3, 3, 128, 256),
        (3, 3, 256, 512),
        (1, 1, 512, 2),
    ]
    assert _begin().discriminator is None


def test_encoder_learns_the_reverse_of_the_discriminator():
    method = _begin(adversarial_weight=0.02)
    batch = tf.nest.map_structure(tf.constant, _batch_of(method)["board"])
    parts = (batch["labeled"], batch["unlabeled"])
    valid = [part["valid"] for part in parts]
    with tf.GradientTape(persistent=True) as tape:
        features = [method.encoder(part["image"]) for part in parts]
        found = method.loss_adversarial(features, valid, 1)
        z = tf.concat([each["stride1"] for each in features], 0)
        logits = method.discriminator(z)
        log_prob = tf.nn.log_softmax(logits)[..., 1]
        expected = -tf.reduce_mean(log_prob[tf.concat(valid, 0)])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    encoder = method.encoder.trainable_variables
    discriminator = method.discriminator.trainable_variables
    for variables, sign in ((encoder, -1), (discriminator, 1)):
        for a, b in zip(
            tape.gradient(found, variables), tape.gradient(expected, variables)
        ):
            assert np.abs(b).max() > 0
            np.testing.assert_allclose(
                a, sign * b, rtol=1e-3, atol=1e-5 * np.abs(b).max()
            )


def test_discriminator_comes_to_know_the_domains():
    """With an encoder that stands still; 1.2 of ln 2 = 0.69 is worse."""
    method = _make(adversarial_weight=1.0, unsup_weight=0.0)
    method.optimizer.set_multipliers(method.encoder.trainable_variables, 0.0)
    batch = _batch_of(method)
    for part in batch["board"].values():
        part["image"] = 0.2 * part["image"]
    first = _step(method, batch)["loss_adversarial"]
    for _ in range(10):
        method.reset_metrics()
        last = _step(method, batch)["loss_adversarial"]
    assert 0.4 < float(first) < 1.2 and float(last) < 0.3 * float(first)


# The contract has the other number of replicas for each.
@pytest.mark.parametrize(
    "precision, replicas", [("mixed_float16", 1), ("mixed_bfloat16", 2)]
)
def test_step(precision, replicas):
    keras.mixed_precision.set_global_policy(precision)
    method = _make(replicas, norm=True, adversarial_weight=0.02)
    before = _values(_all_variables(method))
    logs = contract.fit(method).history
    assert set(logs) == set(method.SCALARS)
    assert all(np.isfinite(logs[name]).all() for name in logs)
    assert int(method.step.numpy()) == 2
    assert method.optimizer.iterations.numpy() == 4
    method.raise_if_not_finite()
    for old, new in zip(before, _values(_all_variables(method))):
        assert np.isfinite(new).all() and (old != new).any()


def test_two_replicas_take_the_step_of_one():
    one = _begin(adversarial_weight=0.02)
    two = _make(2, adversarial_weight=0.02)
    logs = contract.fit(one, 3).history, contract.fit(two, 3).history
    for name in logs[0]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], atol=1e-5)
    for a, b in zip(_all_variables(one), _all_variables(two)):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_checkpoint_holds_everything_and_nothing_is_traced_again(tmp_path):
    first, second = (_make(norm=True, adversarial_weight=0.02) for _ in "ab")
    traces = []
    original = first.train_step
    first.train_step = lambda batch: traces.append(1) or original(batch)
    contract.fit(first, 1)
    once = len(traces)
    contract.fit(first, 2, first=1)
    assert len(traces) == once
    path = tf.train.Checkpoint(method=first, optimizer=first.optimizer).save(
        str(tmp_path / "ckpt")
    )
    tf.train.Checkpoint(method=second, optimizer=second.optimizer).restore(
        path
    ).assert_consumed()
    for method in (first, second):
        contract.fit(method, 2, first=3)
    for a, b in zip(_all_variables(first), _all_variables(second)):
        np.testing.assert_array_equal(a, b)


def test_all_ignored_labels_change_nothing():
    method = _begin(adversarial_weight=0.02)
    before = _values(_all_variables(method))
    batch = _batch_of(method)
    logs = _step(method, {k: _without_labels(v) for k, v in batch.items()})
    assert float(logs["loss"]) == 0
    for old, new in zip(before, _values(_all_variables(method))):
        np.testing.assert_array_equal(old, new)


def test_bad_weight_is_named_and_passes_are_those_of_all_domains():
    with pytest.raises(ValueError, match="adversarial_weight` must be 0 or"):
        _make(adversarial_weight=-1.0)
    method = _begin()
    one = [("train", 4), ("train", 8)] + [("decoder", 8)] * len(method.kinds)
    one += [("decoder_input", 8)] * method.kinds.count("i_vat")
    assert method.passes(4, 8) == one * 2
