# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.ops import contrastive
from tfseg.ops.contrastive import Bank, View

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
CLASSES = 5


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def examples(batch=2, places=30, channels=6, rows=70, seed=0):
    """first, second, valid, bank of clustered features; some rows empty."""
    random = np.random.RandomState(seed)
    centers = random.randn(CLASSES, channels)

    def features(label):
        return unit(centers[label] + random.randn(*label.shape, channels))

    first = random.randint(0, CLASSES, (batch, places))
    same = random.rand(batch, places) < 0.8
    second = np.where(same, first, random.randint(0, CLASSES, first.shape))
    views = [
        View(
            features(label),
            label,
            random.uniform(0.6, 1, label.shape).astype(np.float32),
        )
        for label in (first, second)
    ]
    label = random.randint(-1, CLASSES, rows)
    valid = random.rand(batch, places) < 0.8
    return *views, valid, Bank(features(label), label)


def oracle(
    first,
    second,
    valid,
    bank,
    temperature=0.1,
    threshold=0.75,
    directional=True,
    filter_negatives=True,
    contrast=True,
    normalization="image",
):
    """float64: loss, its gradient by both features."""
    loss, gradients = 0, []
    for one, other in ((first, second), (second, first)):
        active = valid.copy()
        if directional:
            active &= one.confidence < other.confidence
        if threshold is not None:
            active &= other.confidence > threshold
        a, p, k = (x.features.astype(float) for x in (one, other, bank))
        negative = np.broadcast_to(bank.label >= 0, (*valid.shape, len(k)))
        if filter_negatives:
            negative = negative & (bank.label != one.label[..., None])
        own = np.exp((a * p).sum(-1, keepdims=True) / temperature)
        others = np.exp(a @ k.T / temperature) * negative
        total = own + others.sum(-1, keepdims=True)
        each = -np.log(own / total)[..., 0]
        gradient = (others @ k + (own - total) * p) / total / temperature
        if not contrast:
            each, gradient = ((a - p) ** 2).sum(-1), 2 * (a - p)
        count = active.sum()
        if normalization == "image":
            count = valid.sum(-1, keepdims=True) * len(valid)
        weight = active / np.maximum(count, 1)
        loss += (weight * each).sum()
        gradients.append(weight[..., None] * gradient)
    return loss, gradients


def run(first, second, valid, bank, wrap=lambda f: f, **options):
    """Loss and its gradients by both features, as arrays."""

    @wrap
    def step(first, second, valid, bank):
        features = first.features, second.features
        with tf.GradientTape() as tape:
            tape.watch([*features, bank.features])
            loss = contrastive.contrastive_loss(
                first, second, valid, bank, **options
            )
        *gradients, none = tape.gradient(loss, [*features, bank.features])
        assert none is None
        return loss, gradients

    inputs = tf.nest.map_structure(
        tf.convert_to_tensor, (first, second, valid, bank)
    )
    loss, gradients = step(*inputs)
    assert loss.dtype == tf.float32
    return loss.numpy(), [gradient.numpy() for gradient in gradients]


def check(result, expected, loss_error=1e-5, gradient_error=1e-4):
    """Relative: the gradient's to its largest value."""
    np.testing.assert_allclose(result[0], expected[0], loss_error, 1e-7)
    for gradient, wanted in zip(result[1], expected[1]):
        size = np.abs(wanted).max()
        np.testing.assert_allclose(
            gradient.astype(float), wanted, 0, gradient_error * size + 1e-7
        )


def golden_case(data, name):
    views = [
        View(*(data[f"{name}_{key}{i}"][np.newaxis] for key in "fyc"))
        for i in (1, 2)
    ]
    valid = np.ones(views[0].label.shape, bool)
    return *views, valid, Bank(data[f"{name}_bank"], data[f"{name}_ybank"])


GOLDEN = "plain chunks ties lowconf edge noneg adversarial ln2 orth1000"


@pytest.mark.parametrize("name", GOLDEN.split())
def test_agrees_with_golden_vectors(name):
    data = golden.load("cac_dc_loss")
    inputs = golden_case(data, name)
    result = run(*inputs, normalization="active")
    exact = data[f"{name}_exact_loss1_64"] + data[f"{name}_exact_loss2_64"]
    np.testing.assert_allclose(result[0], exact, 1e-5, 1e-7)
    gradients = [data[f"{name}_grad_f{i}"][np.newaxis] / 0.1 for i in (1, 2)]
    official = data[f"{name}_loss_unsup"] / 0.1
    if name == "adversarial":
        # A masked row is 20 in logits ahead of a positive, beyond the 12.
        assert abs(result[0] - official) > 0.1
        check(result, oracle(*inputs, normalization="active"))
    else:
        check(result, (official, gradients), 2e-5, 1e-4)
    active = contrastive.active_anchors(*inputs[:3])[:, 0]
    for i in range(2):
        np.testing.assert_array_equal(active[i], data[f"{name}_mask{i + 1}"])


SWITCHES = [
    {},
    {"directional": False},
    {"threshold": None},
    {"threshold": None, "filter_negatives": False},
    {"directional": False, "threshold": None, "filter_negatives": False},
    {"directional": False, "threshold": None, "contrast": False},
    {"normalization": "active"},
    {"temperature": 0.03},
    {"temperature": 1.0, "threshold": 0.9},
]


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_agrees_with_float64_for_every_switch(monkeypatch, options):
    monkeypatch.setattr(contrastive, "_ROWS", 32)
    inputs = examples()
    result = run(*inputs, tile_bytes=4 * 32 * 36, **options)
    check(result, oracle(*inputs, **options))


@pytest.mark.parametrize("rows,columns", [(7, 16), (20, 64), (512, 999)])
def test_tiles_do_not_matter(monkeypatch, rows, columns):
    monkeypatch.setattr(contrastive, "_ROWS", rows)
    inputs = examples(places=20, rows=65)
    result = run(*inputs, tf.function, tile_bytes=4 * rows * columns)
    check(result, oracle(*inputs))


@pytest.mark.parametrize("compiled", [False, True])
def test_graph_and_compiled(monkeypatch, compiled):
    # Many tiles, of which some are of one class, of anchors or of keys or both.
    monkeypatch.setattr(contrastive, "_ROWS", 3)
    inputs = examples()
    wrap = tf.function(jit_compile=compiled)
    check(run(*inputs, wrap, tile_bytes=4 * 3 * 6), oracle(*inputs))


def test_tiles_that_are_not_full(monkeypatch):
    """Ten anchors in tiles of three, the last with anchors in it."""
    monkeypatch.setattr(contrastive, "_ROWS", 4)
    first, second, valid, bank = examples(batch=1, places=5)
    inputs = first, second, np.ones_like(valid), bank
    options = {"directional": False, "threshold": None}
    check(run(*inputs, **options), oracle(*inputs, **options))


def test_unknown_sizes():
    inputs = examples()

    def spec(x):
        last = 6 if x.shape[-1] == 6 else None
        return tf.TensorSpec([None] * (x.ndim - 1) + [last], x.dtype)

    spec = tf.nest.map_structure(spec, inputs)
    loss = tf.function(contrastive.contrastive_loss, input_signature=spec)
    np.testing.assert_allclose(loss(*inputs), oracle(*inputs)[0], 1e-5)


@pytest.mark.parametrize("filled", [0, 1, 33, 70])
def test_any_fill_of_the_bank(monkeypatch, filled):
    monkeypatch.setattr(contrastive, "_ROWS", 32)
    first, second, valid, bank = examples()
    label = np.where(np.arange(70) < filled, np.abs(bank.label), -1)
    inputs = first, second, valid, Bank(bank.features, label)
    check(run(*inputs, tile_bytes=4 * 32 * 20), oracle(*inputs))


@pytest.mark.parametrize("own", [True, False])
def test_all_labels_equal(own):
    first, second, valid, bank = examples()
    first = first._replace(label=np.full_like(first.label, 3))
    second = second._replace(label=first.label)
    bank = bank._replace(label=np.full_like(bank.label, 3 if own else 2))
    result = run(first, second, valid, bank)
    # Without a negative nothing pulls either.
    assert np.any(result[1]) == (not own) and (result[0] > 0) == (not own)
    check(result, oracle(first, second, valid, bank))


@pytest.mark.parametrize(
    "change",
    [{"valid": False}, {"confidence": "tie"}, {"places": 0}, {"rows": 0}],
    ids=str,
)
def test_nothing_to_learn_from(change):
    sizes = {k: v for k, v in change.items() if k in ("places", "rows")}
    first, second, valid, bank = examples(**sizes)
    if "valid" in change:
        valid = np.zeros_like(valid)
    if "confidence" in change:
        first = first._replace(confidence=second.confidence)
    for normalization in contrastive.NORMALIZATIONS:
        options = {"normalization": normalization}
        loss, gradients = run(first, second, valid, bank, **options)
        assert loss == 0 and not np.any(gradients)


def test_by_hand():
    def value(positive, negatives, **options):
        label, one = np.zeros([1, 1], int), np.ones([1, 1], np.float32)
        first = View(np.array([[[1.0, 0.0]]], np.float32), label, 0.5 * one)
        second = View(np.array([[positive]], np.float32), label, one)
        rows = np.array(negatives, np.float32)
        bank = Bank(rows, np.ones([len(rows)], int))
        return run(first, second, np.ones([1, 1], bool), bank, **options)

    loss, gradients = value([0.6, 0.8], [[0.6, -0.8]])
    np.testing.assert_allclose(loss, np.log(2), 1e-6)
    # Half of (negative - positive) / temperature.
    np.testing.assert_allclose(gradients[0][0, 0], [0, -8], 1e-5, 1e-5)
    assert not np.any(gradients[1])
    loss, _ = value([1, 0], [[0, 1]] * 1000)
    np.testing.assert_allclose(loss, np.log1p(1000 * np.exp(-10)), 1e-5)
    # The first column of the tile is as far as can be from its largest.
    loss, _ = value([1, 0], [[-1, 0], [1, 0]], temperature=0.03)
    np.testing.assert_allclose(loss, np.log(2), 1e-5)


def test_what_is_not_valid_does_not_matter():
    first, second, valid, bank = examples()
    clean = run(first, second, valid, bank)
    first, second = (
        View(
            np.where(valid[..., None], view.features, np.nan),
            np.where(valid, view.label, 99),
            np.where(valid, view.confidence, np.nan).astype(np.float32),
        )
        for view in (first, second)
    )
    dirty = run(first, second, valid, bank)
    check(dirty, clean, 1e-6, 1e-6)


def test_maps_are_as_good_as_rows():
    first, second, valid, bank = examples()

    def to_map(x):
        return x.reshape(2, 5, 6, *x.shape[2:])

    views = tf.nest.map_structure(to_map, (first, second, valid))
    for normalization in contrastive.NORMALIZATIONS:
        options = {"normalization": normalization}
        expected = oracle(first, second, valid, bank, **options)
        loss, gradients = run(*views, bank, **options)
        gradients = [x.reshape(2, 30, -1) for x in gradients]
        check((loss, gradients), expected)


@pytest.mark.parametrize("normalization", contrastive.NORMALIZATIONS)
def test_mean_over_replicas_is_the_loss_of_the_batch(normalization):
    first, second, valid, bank = examples(batch=4)
    # Of no valid place, and of some only.
    valid[0] = False
    valid[1, 5:] = False
    whole = run(first, second, valid, bank, normalization=normalization)
    options = {"normalization": normalization}
    if normalization == "active":
        active = contrastive.active_anchors(first, second, valid)
        count = tf.reduce_sum(tf.cast(active, tf.float32), [1, 2])
        options["normalizer"] = count / 2
    parts = []
    for images in (slice(2), slice(2, 4)):
        views = tf.nest.map_structure(
            lambda x, part=images: x[part], (first, second, valid)
        )
        parts.append(run(*views, bank, **options))
    gradients = [
        np.concatenate([part[1][i] for part in parts]) / 2 for i in range(2)
    ]
    check(((parts[0][0] + parts[1][0]) / 2, gradients), whole)


@pytest.mark.parametrize(
    "dtype,loss_error,gradient_error",
    [(tf.float16, 1e-5, 1e-3), (tf.bfloat16, 2e-3, 2e-2)],
)
def test_half_precision(dtype, loss_error, gradient_error):
    dtype = dtype.as_numpy_dtype
    *views, valid, bank = examples(places=100, channels=16, rows=3000)
    *views, bank = (
        x._replace(features=x.features.astype(dtype)) for x in (*views, bank)
    )
    result = run(*views, valid, bank)
    assert result[1][0].dtype == dtype
    check(result, oracle(*views, valid, bank), loss_error, gradient_error)


def test_l2_normalize():
    x = tf.constant([[3.0, -4.0], [0.0, 0.0], [2e-6, 0.0]])
    expected = [[0.6, -0.8], [0, 0], [1, 0]]
    for dtype, error in ((tf.float32, 1e-6), (tf.bfloat16, 4e-3)):
        result = contrastive.l2_normalize(tf.cast(x, dtype))
        assert result.dtype == dtype
        result = tf.cast(result, tf.float32)
        np.testing.assert_allclose(result, expected, atol=error)


@CALLS
def test_a_ring_forgets_the_oldest_rows(wrap):
    bank = Bank(tf.zeros([5, 2], tf.bfloat16), tf.fill([5], -1))
    write = wrap(contrastive.write)
    position, expected = 0, [-1] * 5
    for number, count in enumerate([2, 3, 3, 5]):
        label = tf.range(count, dtype=tf.int64) + 10 * number
        features = tf.repeat(tf.cast(label, tf.float32)[:, None], 2, 1)
        bank = write(bank, Bank(features, label), position)
        for value in label.numpy():
            expected[position] = value
            position = (position + 1) % 5
        np.testing.assert_array_equal(bank.label, expected)
        filled = np.where(np.array(expected) < 0, 0, expected)
        assert bank.features.dtype == tf.bfloat16
        np.testing.assert_array_equal(bank.features[:, 1], filled)
    with pytest.raises(ValueError, match="5.*Received: 6"):
        write(bank, Bank(tf.zeros([6, 2]), tf.zeros([6], tf.int32)), 0)


def test_bad_arguments_are_refused():
    inputs = first, second, valid, bank = examples()
    loss = contrastive.contrastive_loss
    for options, message in (
        ({"temperature": 0.0}, "`temperature`.*Received: 0.0"),
        ({"threshold": 1.5}, "`threshold`.*threshold=1.5"),
        ({"normalization": "mean"}, "image, active.*Received: 'mean'"),
        ({"normalizer": [1.0, 2.0]}, "`normalizer`.*'image'"),
        ({"normalizer": 3.0, "normalization": "active"}, "must have rank 1"),
    ):
        with pytest.raises(ValueError, match=message):
            loss(*inputs, **options)
    for name, bad in (
        ("first.label", (first._replace(label=valid[0]), *inputs[1:])),
        ("second.features", (first, View(valid, *second[1:]), valid, bank)),
        ("valid", (first, second, valid[0], bank)),
        ("bank.label", (*inputs[:3], Bank(bank.features, bank.features))),
    ):
        with pytest.raises(ValueError, match=f"`{name}`"):
            loss(*bad)


def test_a_tile_without_a_negative_is_not_computed(monkeypatch):
    """Else the exponential of an infinite key would be in the sums."""
    monkeypatch.setattr(contrastive, "_ROWS", 16)
    first, second, valid, bank = examples()
    label = np.repeat(np.arange(4), 20)[:70]
    features = bank.features.copy()
    features[20:40] = np.nan
    bank = Bank(features, label)
    ones = np.ones_like(first.label)
    first, second = first._replace(label=ones), second._replace(label=ones)
    result = run(first, second, valid, bank, tile_bytes=4 * 16 * 5)
    keep = label != 1
    bank = Bank(features[keep], label[keep])
    check(result, oracle(first, second, valid, bank))
