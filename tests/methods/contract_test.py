# SPDX-License-Identifier: Apache-2.0
"""What every method must do, on every precision and number of replicas.

A new method is found by itself; it needs a config `configs/digits_<x>.py` that
names it, from which its options come.
"""

import importlib
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.methods import shared
from tfseg import lookup, optimizers
from tfseg import strategy as strategies
from tfseg.networks import base

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
CLASSES, SIZE, BATCH = 3, 8, 4
DOMAINS = ("paper", "board")


def _options():
    """{method: options} from the configs of the embedded data set."""
    found = {}
    for path in sorted(CONFIGS.glob("digits_*.py")):
        config = importlib.import_module(f"configs.{path.stem}").get_config()
        options = {k: v for k, v in config.method.items() if k != "name"}
        found.setdefault(config.method.name, options)
    return found


OPTIONS = _options()
# Each decoder takes its time to trace; `cct` has all kinds of them.
OPTIONS["cct_domains"]["decoders"] = {"i_vat": 1, "g_cutout": 1}


class Encoder(base.Encoder):
    def __init__(self, norm):
        super().__init__(feature_channels={"stride1": 8}, output_stride=1)
        self.body = keras.Sequential(
            [keras.layers.Conv2D(8, 3, padding="same", activation="relu")]
        )
        if norm:
            self.body.add(keras.layers.BatchNormalization())
        self.build(base.IMAGE_SHAPE)

    def features(self, image, training):
        return {"stride1": self.body(image / 64 - 2, training=training)}


class Decoder(base.Decoder):
    def __init__(self):
        super().__init__()
        self.classifier = keras.layers.Conv2D(CLASSES, 1, dtype="float32")

    def embed(self, features, training=None):
        return features["stride1"]

    def logits(self, embedding, training=None):
        return self.classifier(embedding)


def build_network(norm=False):
    """A network of a few hundred weights."""
    return base.Network(Encoder(norm), Decoder, CLASSES)


def batch_of(method, seed=0):
    """A random batch as the views give it, a fifth of it padding."""
    if not method.SEVERAL_DOMAINS:
        return _batch_of_domain(method, seed)
    return {
        name: _batch_of_domain(method, 2 * seed + place)
        for place, name in enumerate(DOMAINS)
    }


def _batch_of_domain(method, seed):
    draw = np.random.default_rng(seed)

    def images():
        shape = (BATCH, SIZE, SIZE, 3)
        return draw.uniform(0, 255, shape).astype(np.float32)

    valid = draw.uniform(size=(BATCH, SIZE, SIZE)) < 0.8
    label = draw.integers(0, CLASSES, (BATCH, SIZE, SIZE)).astype(np.int32)
    batch = {}
    if method.LABELED_VIEW:
        batch["labeled"] = {
            "image": images(),
            "valid": valid,
            "label": np.where(valid, label, 255).astype(np.int32),
        }
    if method.UNLABELED_VIEW == "plain":
        batch["unlabeled"] = {"image": images(), "valid": valid[::-1].copy()}
    if method.IMAGE_LABELED:
        shown = draw.integers(0, 2, (BATCH, CLASSES)).astype(np.float32)
        shown[:, 0] = 1
        batch["unlabeled"]["classes"] = shown
    if method.PSEUDO_LABELED:
        pseudo = draw.integers(0, CLASSES, valid.shape)
        pseudo[~batch["unlabeled"]["valid"]] = 255
        batch["unlabeled"]["label"] = pseudo.astype(np.int32)
    if method.UNLABELED_VIEW == "weak_strong":
        weak = images()
        batch["unlabeled"] = {
            "weak": weak,
            "strong": weak + 5,
            "valid": valid[::-1].copy(),
        }
    if method.UNLABELED_VIEW == "affine_pair":
        # A mirror image, one pixel to the side.
        matrix = np.array([[-1, 0, SIZE], [0, 1, 0], [0, 0, 1]], np.float32)
        batch["unlabeled"] = {
            "teacher": images(),
            "student": images(),
            "teacher_valid": valid.copy(),
            "student_valid": valid[::-1].copy(),
            "matrix": np.tile(matrix, (BATCH, 1, 1)),
        }
    if method.UNLABELED_VIEW == "overlap_pair":
        # Half of the second crop is the mirrored half of the first.
        matrix = np.array([[-1, 0, 11], [0, 1, 0], [0, 0, 1]], np.float32)
        batch["unlabeled"] = {
            "first": images(),
            "second": images(),
            "first_valid": valid.copy(),
            "second_valid": valid[::-1].copy(),
            "matrix": np.tile(matrix, (BATCH, 1, 1)),
        }
    return batch


def make(name, replicas=1, optimizer="sgd", norm=False, **changes):
    strategy = strategies.build("mirrored", replicas=replicas)
    with strategy.scope():
        keras.utils.set_random_seed(1)
        leaf = lookup.module("methods", name)

        def builders(place=0):
            return build_network(norm)

        if leaf.build.SEVERAL_DOMAINS:
            builders = dict.fromkeys(DOMAINS, builders)
        method = leaf.build(
            builders,
            seed=7,
            **OPTIONS[name] | changes,
        )
        method.compile(
            optimizers.build(
                optimizer,
                learning_rate=0.1,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                coupled_weight_decay=True,
                decay_norm_and_bias=False,
            )
        )
        method.optimizer.build(method.trained)
    return method


def fit(method, steps=2, callbacks=(), first=0):
    strategy = method.distribute_strategy

    each_step = [batch_of(method, first + i) for i in range(steps)]
    # Every part has the batch as its first axis. A generator would cost more
    # than the steps.
    rows = tf.nest.map_structure(
        lambda *parts: np.concatenate(parts), *each_step
    )

    def batches(context):
        size = BATCH // context.num_replicas_in_sync
        return tf.data.Dataset.from_tensor_slices(rows).batch(
            size, drop_remainder=True
        )

    data = strategy.distribute_datasets_from_function(batches)
    return method.fit(
        data,
        steps_per_epoch=steps,
        callbacks=[*method.step_callbacks(), *callbacks],
        verbose=0,
    )


def step(method, batch):
    """One step on one replica, without callbacks."""
    batch = tf.nest.map_structure(tf.constant, batch)
    return method.distribute_strategy.run(method.train_step, [batch])


def trained_network(method):
    """One of the networks that the optimizer updates."""
    if method.SEVERAL_DOMAINS:
        return method.deployed
    return getattr(method, "student", None) or method.network1


def values(network):
    return [variable.numpy() for variable in network.variables]


@pytest.fixture(autouse=True)
def _float32():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(name="one", scope="module", params=lookup.names("methods"))
def _one(request):
    """In float32, on one replica and without BatchNorm."""
    return shared.Shared(request.param, make(request.param))


def check_steps(method, logs, before, steps):
    """All that holds after the first steps of any method.

    Args:
      method: after `fit`.
      logs: its history.
      before: values of `trained_network` at first.
      steps: how many there were.
    """
    assert set(logs) == {*method.SCALARS, *method.CLASS_SHARES}
    for key in method.SCALARS:
        assert np.isfinite(logs[key]).all(), key
    assert int(method.step.numpy()) == steps
    method.raise_if_not_finite()
    moved = [
        not np.array_equal(old, new)
        for old, new in zip(before, values(trained_network(method)))
    ]
    assert all(moved)
    for network in method.networks.values():
        assert all(np.isfinite(v).all() for v in values(network))


# float32 is in the tests of replicas and of the checkpoint. The other number of
# replicas for each precision: in the files of `cac`, which gathers features of
# that precision, `cct`, `cct_domains` and `image_classifier`.
@pytest.mark.parametrize(
    "precision, replicas", [("mixed_float16", 2), ("mixed_bfloat16", 1)]
)
@pytest.mark.parametrize("name", lookup.names("methods"))
def test_step_in_half_precision(name, precision, replicas):
    keras.mixed_precision.set_global_policy(precision)
    method = make(name, replicas, norm=True)
    before = values(trained_network(method))
    check_steps(method, fit(method).history, before, 2)


def check_replicas(one, two):
    """Two replicas take the steps of one."""
    before = [values(trained_network(method)) for method in (one, two)]
    logs = [fit(method, 3).history for method in (one, two)]
    for method, *results in zip((one, two), logs, before):
        check_steps(method, *results, 3)
    for key in logs[0]:
        np.testing.assert_allclose(logs[0][key], logs[1][key], atol=1e-6)
    for network in one.networks:
        for a, b in zip(
            values(one.networks[network]), values(two.networks[network])
        ):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_two_replicas_take_the_step_of_one(one):
    check_replicas(one.begin(), make(one.name, 2))


def test_two_replicas_keep_the_pixels_of_one():
    """Those that are not yet learned; decoders do not matter."""
    one, two = (
        make(
            "cct",
            replicas,
            supervised="bootstrapped",
            bootstrap_steps=5,
            decoders={"drop_out": 1},
        )
        for replicas in (1, 2)
    )
    check_replicas(one, two)


@pytest.mark.parametrize("name", lookup.names("methods"))
def test_checkpoint_holds_everything(name, tmp_path):
    # Two decoders are as good as seven to be held.
    changes = {"decoders": {"i_vat": 1, "f_drop": 1}} if name == "cct" else {}
    built = shared.Shared(name, make(name, norm=True, **changes))
    method = built.begin()
    before = values(trained_network(method))
    check_steps(method, fit(method, 3).history, before, 3)
    path = tf.train.Checkpoint(method=method, optimizer=method.optimizer).save(
        str(tmp_path / "ckpt")
    )
    saved = built.values()
    # Another one takes it whole. It would trace its steps anew; so it is the
    # first one, begun anew, that goes on.
    other = make(name, norm=True, **changes)
    _restore(other, path)
    restored = shared.Shared(name, other).values()
    assert len(restored) == len(saved)
    for a, b in zip(saved, restored):
        np.testing.assert_array_equal(a, b)
    fit(method, 2, first=3)
    whole = [values(network) for network in method.networks.values()]
    _restore(built.begin(), path)
    fit(method, 2, first=3)
    assert int(method.step.numpy()) == 5
    for network, expected in zip(method.networks.values(), whole):
        for a, b in zip(expected, values(network)):
            np.testing.assert_array_equal(a, b)


def _restore(method, path):
    tf.train.Checkpoint(method=method, optimizer=method.optimizer).restore(
        path
    ).assert_consumed()


def test_all_ignored_labels_give_a_finite_step(one):
    method = one.begin()
    before = values(trained_network(method))
    batch = batch_of(method)
    for part in batch.values() if method.SEVERAL_DOMAINS else [batch]:
        for kind in part.values():
            for key, values_of_key in kind.items():
                if key.endswith("valid"):
                    values_of_key[:] = False
                if key.endswith("label"):
                    values_of_key[:] = 255
    logs = step(method, batch)
    assert float(logs["loss"]) == 0
    for old, new in zip(before, values(trained_network(method))):
        np.testing.assert_array_equal(old, new)


def test_batch_of_one(one):
    method = one.begin()
    batch = tf.nest.map_structure(lambda x: x[:1], batch_of(method))
    logs = step(method, batch)
    assert np.isfinite(logs["loss"])


def test_passes_name_what_a_step_needs(one):
    passes = one.begin().passes(4, 8)
    assert {kind for kind, _ in passes} <= {
        "train",
        "forward",
        "input",
        "decoder",
        "decoder_input",
    }
    assert passes[0][0] == "train" and passes[0][1] >= 4


def test_steps_per_execution_is_refused(one):
    method = one.begin()
    with pytest.raises(ValueError, match="`steps_per_execution` must be 1"):
        method.compile(method.optimizer, steps_per_execution=4)


def test_second_step_does_not_retrace(one):
    method = one.begin()
    fit(method, 1)
    after_first = len(one.traces)
    fit(method, 3)
    assert 0 < after_first == len(one.traces)


def test_weights_and_losses_that_are_not_finite_are_found(one):
    """First a weight that a finite loss broke, then the loss itself."""
    method = one.begin()
    fit(method, 1)
    method.raise_if_not_finite()
    variable = trained_network(method).variables[-1]
    before = variable.numpy()
    variable.assign(np.inf * tf.ones_like(variable))
    with pytest.raises(FloatingPointError, match="is not finite at step 0"):
        method.raise_if_not_finite()
    variable.assign(before)
    method.raise_if_not_finite()
    for variable in trained_network(method).variables:
        variable.assign(np.nan * variable)
    fit(method, 2)
    with pytest.raises(
        FloatingPointError, match="`loss.*` is not finite at step 1"
    ):
        method.raise_if_not_finite()
