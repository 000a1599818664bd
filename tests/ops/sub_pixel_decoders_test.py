# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.networks import cct
from tfseg.ops import adversarial, consistency, cores
from tfseg.ops import sub_pixel_decoders as decoders
from tfseg.ops import sub_pixel_rows

# No two sizes alike.
BATCH, HEIGHT, WIDTH, CHANNELS, CLASSES = 2, 3, 5, 12, 4


def normal(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def features(batch=BATCH):
    return np.maximum(normal(batch, HEIGHT, WIDTH, CHANNELS), 0)


def targets(batch=BATCH):
    logits = 2 * normal(batch, 8 * HEIGHT, 8 * WIDTH, CLASSES, seed=1)
    return tf.nn.softmax(logits).numpy()


@functools.lru_cache(maxsize=None)
def networks(relu):
    """Six Keras decoders, built."""
    tf.keras.utils.set_random_seed(0)
    result = [cct.Decoder(CLASSES, "z", relu) for _ in range(6)]
    for decoder in result:
        decoder.logits(features())
    return result


def perturbations(batch=BATCH, iterations=1):
    """Mixed up, so that an order that is not restored is seen."""
    uniform = np.random.RandomState(2).uniform
    mask = (uniform(size=(batch, HEIGHT, WIDTH, 1)) > 0.4).astype(np.float32)
    channel = 2.0 * (uniform(size=(batch, 1, 1, CHANNELS)) > 0.5)
    factor = 1 + uniform(-0.3, 0.3, (HEIGHT, WIDTH, CHANNELS))
    noise = normal(batch, HEIGHT, WIDTH, CHANNELS, seed=3)
    return [
        decoders.Factor(lambda: factor),
        decoders.SpatialMask(mask),
        decoders.Adversarial(lambda: noise, 0.1, 2.0, iterations),
        decoders.ChannelMask(channel),
        decoders.SpatialMask(1 - mask),
        decoders.Adversarial(lambda: -3 * noise[::-1], 0.2, 1.0, iterations),
    ]


def perturb(z, perturbation, predict):
    """What a perturbation does, as its own operation on z."""
    if isinstance(perturbation, decoders.Factor):
        return z * np.float32(perturbation.factor())
    if not isinstance(perturbation, decoders.Adversarial):
        return z * np.float32(perturbation.mask)
    clean = tf.stop_gradient(z)
    direction = adversarial.direction(
        predict,
        clean,
        consistency.target("kld", predict(clean)),
        perturbation.noise(),
        distance=functools.partial(consistency.distance, "kld"),
        xi=perturbation.xi,
        iterations=perturbation.iterations,
    )
    return z + perturbation.radius * direction


def mean_square(logits, target):
    return tf.reduce_mean(tf.square(tf.nn.softmax(logits) - target), -1)


def eager(run):
    """Without the time of tracing, where other tests see a graph agree."""
    return run


def naive(z, target, ours, changes, distance=mean_square):
    """Loss and gradients of z and of all variables, decoder by decoder."""
    z = tf.constant(z)
    variables = [decoder.trainable_variables for decoder in ours]
    with tf.GradientTape() as tape:
        tape.watch(z)
        losses = [
            distance(decoder.logits(perturb(z, p, decoder.logits)), target)
            for decoder, p in zip(ours, changes)
        ]
        loss = sum(map(tf.reduce_mean, losses)) / len(losses)
    return loss, tape.gradient(loss, [z, variables])


@functools.lru_cache(maxsize=None)
def usual(relu):
    """What `fast` takes, and the loss and gradients it should find."""
    arguments = features(), targets(), networks(relu), perturbations()
    return arguments, naive(*arguments)


def fast(wrap, z, target, ours, changes, factor=1.0, masks=(None,), **options):
    """The same; with several `masks` one result of each, from one trace."""
    weights = [decoder.sub_pixel_weights for decoder in ours]
    variables = [decoder.trainable_variables for decoder in ours]

    @wrap
    def run(z, target, mask):
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = decoders.consistency(
                z, target, weights, changes, mask=mask, **options
            )
            scaled = factor * loss
        return loss, tape.gradient(scaled, [z, variables])

    masks = [None if m is None else tf.constant(m) for m in masks]
    z, target = tf.convert_to_tensor(z), tf.constant(target)
    found = [run(z, target, mask) for mask in masks]
    return found if len(masks) > 1 else found[0]


def assert_close(found, expected, tolerance):
    found, expected = tf.nest.flatten(found), tf.nest.flatten(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.shape == b.shape
        scale = np.abs(b).max()
        assert scale > 0
        np.testing.assert_allclose(a, b, atol=tolerance * scale)


@pytest.mark.parametrize(
    "wrap, relu", [(tf.function, True), (tf.function, False), (eager, True)]
)
def test_agrees_with_the_decoders_one_by_one(wrap, relu, monkeypatch):
    # Several blocks, of which the last one is smaller.
    monkeypatch.setattr(sub_pixel_rows, "_BLOCK", 7 * 64 * CLASSES)
    arguments, expected = usual(relu)
    assert_close(fast(wrap, *arguments, relu=relu), expected, 1e-5)


def test_agrees_decoder_after_decoder_of_a_kind(monkeypatch):
    monkeypatch.setattr(decoders, "_TOGETHER", 1)
    arguments, expected = usual(True)
    assert_close(fast(tf.function, *arguments), expected, 1e-5)


def test_agrees_as_it_is_done_with_a_gpu(monkeypatch):
    monkeypatch.setattr(cores, "are_ours", lambda: False)
    arguments, expected = usual(True)
    assert_close(fast(tf.function, *arguments), expected, 1e-5)


def test_agrees_with_xla():
    arguments, expected = usual(True)
    compiled = functools.partial(tf.function, jit_compile=True)
    assert_close(fast(compiled, *arguments), expected, 1e-5)


def test_logits_that_exp_cannot_take():
    z, ours = 60 * features(), networks(True)[:2]
    assert tf.reduce_max(ours[0].logits(z)) > 100
    arguments = z, targets(), ours, perturbations()[:2]
    # Next to such logits float32 itself is as coarse.
    assert_close(fast(eager, *arguments), naive(*arguments), 2e-4)


@pytest.mark.parametrize("kind", range(4))
def test_one_decoder_and_one_image(kind):
    changes = perturbations(1)[kind : kind + 1]
    arguments = features(1), targets(1), networks(True)[:1], changes
    assert_close(fast(eager, *arguments), naive(*arguments), 1e-5)


def test_two_power_iterations():
    changes = perturbations(iterations=2)[2:3]
    arguments = features(), targets(), networks(True)[:1], changes
    assert_close(fast(eager, *arguments), naive(*arguments), 1e-5)


@pytest.mark.parametrize("wrap, given", [(tf.function, False), (eager, True)])
def test_pixels_that_do_not_count(wrap, given, monkeypatch):
    monkeypatch.setattr(sub_pixel_rows, "_BLOCK", 7 * 64 * CLASSES)
    target = targets()
    mask = np.random.RandomState(5).uniform(size=target.shape[:3]) > 0.3
    mask = mask.astype(np.float32)
    arguments = features(), target, networks(True), perturbations()
    expected = naive(
        *arguments, lambda logits, goal: mask * mean_square(logits, goal)
    )
    distance = mean_square if given else None
    found, (loss, _) = fast(
        wrap, *arguments, masks=[mask, 0 * mask], distance=distance
    )
    assert_close(found, expected, 1e-5)
    assert loss == 0


def test_other_distances():
    def confident(logits, target):
        keep = tf.reduce_max(target, -1) > 0.5
        return tf.where(keep, mean_square(logits, target), 0.0)

    def divergence(logits, target):
        log_prob = tf.nn.log_softmax(logits)
        return tf.reduce_sum(tf.math.xlogy(target, target), -1) - tf.reduce_sum(
            target * log_prob, -1
        )

    for distance in (confident, divergence):
        ours, changes = networks(True)[:2], perturbations()[:2]
        arguments = features(), targets(), ours, changes
        found = fast(tf.function, *arguments, distance=distance)
        assert_close(found, naive(*arguments, distance), 1e-5)


def test_nothing_confident_is_zero():
    def nothing(logits, target):
        del target
        return tf.zeros(tf.shape(logits)[:1])

    arguments = features(), targets(), networks(True), perturbations()
    loss, gradients = fast(eager, *arguments, distance=nothing)
    assert loss == 0
    for gradient in tf.nest.flatten(gradients):
        np.testing.assert_array_equal(gradient, tf.zeros_like(gradient))


def test_masks_of_all_sizes():
    # An image without a masked pixel, one of masked pixels alone; a factor.
    mask = np.ones([3, HEIGHT, WIDTH, 1], np.float32)
    mask[1] = 0
    mask[2, 0] = [[0], [0.5], [0], [2], [1]]
    changes = [decoders.SpatialMask(mask), decoders.SpatialMask(mask[::-1])]
    target = targets(3)
    keep = np.ones(target.shape[:3], np.float32)
    keep[0, :9], keep[1, :, 20:] = 0, 0
    # In the second no pixel of an image counts.
    keeps = [keep, keep * np.float32([1, 1, 0])[:, None, None]]
    arguments = features(3), target, networks(True)[:2], changes
    found = fast(tf.function, *arguments, masks=keeps)
    for result, counted in zip(found, keeps):
        expected = naive(
            *arguments, lambda logits, goal: counted * mean_square(logits, goal)
        )
        assert_close(result, expected, 1e-5)


def test_masked_features_and_no_direction():
    # Biases alone; and a first direction that changes nothing.
    shape = [BATCH, HEIGHT, WIDTH]
    noise = np.zeros([*shape, CHANNELS], np.float32)
    nothing = decoders.SpatialMask(np.zeros([*shape, 1], np.float32))
    clean = decoders.SpatialMask(np.ones([*shape, 1], np.float32))
    flat = decoders.Adversarial(lambda: noise, 0.1, 2.0)
    arguments = features(), targets(), networks(True)[:2]
    found = fast(tf.function, *arguments, [nothing, flat])
    loss, (of_z, variables) = naive(*arguments, [nothing, clean])
    found, expected = tf.nest.flatten(found), [loss, of_z, *sum(variables, [])]
    assert not np.any(expected[2])
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize(
    "dtype, factor", [(tf.float16, 2.0**15), (tf.bfloat16, 1.0)]
)
def test_half_precision_features(dtype, factor):
    z = tf.cast(features(), dtype)
    arguments = targets(), networks(True), perturbations()
    _, expected = naive(tf.cast(z, tf.float32), *arguments)
    loss, (found, variables) = fast(tf.function, z, *arguments, factor=factor)
    assert loss.dtype == tf.float32 and found.dtype == dtype
    assert_close(tf.cast(found, tf.float32) / factor, expected[0], 1e-2)
    unscaled = [g / factor for g in tf.nest.flatten(variables)]
    assert_close(unscaled, expected[1], 1e-5)


def golden_decoder(data, names, relu=True):
    shape = data["p." + names[0]].shape
    decoder = cct.Decoder(shape[-1], "z", relu)
    decoder.logits(np.zeros([1, 1, 1, shape[2]], np.float32))
    for name, variable in zip(names, decoder.sub_pixel_weights):
        variable.assign(data["p." + name])
    return decoder


@pytest.mark.parametrize("name", ["it1_xi0.1_eps2", "it2_xi0.1_eps2"])
def test_adversarial_decoder_is_the_official_one(name):
    data = golden.load("vat_feature")
    convolutions = (f"{i}.conv.{w}" for i in "123" for w in ("weight", "bias"))
    decoder = golden_decoder(data, ["0.weight", *convolutions])
    expected = data["out_" + name]
    z = data["z"]
    # There xi is the norm of a sample.
    change = decoders.Adversarial(
        lambda: data["rand01"] - 0.5,
        0.1 / np.sqrt(z[0].size),
        2.0,
        iterations=int(name[2]),
    )
    target = np.roll(tf.nn.softmax(expected).numpy(), 1, -1)
    loss, _ = fast(tf.function, z, target, [decoder], [change])
    exact = tf.reduce_mean(mean_square(expected, target))
    np.testing.assert_allclose(loss, exact, rtol=1e-4)
    clean = tf.reduce_mean(mean_square(decoder.logits(z), target))
    assert abs(clean - exact) > 1e-2 * exact


def test_bad_arguments_are_named():
    z, target = features(), targets()
    weights = [decoder.sub_pixel_weights for decoder in networks(True)]
    changes = perturbations()
    with pytest.raises(ValueError, match="`perturbations`.*1 for 6"):
        decoders.consistency(z, target, weights, changes[:1])
    with pytest.raises(ValueError, match="`perturbations`.*0 for 0"):
        decoders.consistency(z, target, [], [])
    with pytest.raises(ValueError, match="SpatialMask, .*float"):
        decoders.consistency(z, target, weights[:1], [1.0])
    with pytest.raises(ValueError, match="`z` must have rank 4"):
        decoders.consistency(z[0], target, weights, changes)
    changes[2] = changes[2]._replace(iterations=3)
    with pytest.raises(ValueError, match="`iterations`.*3"):
        decoders.consistency(z, target, weights, changes)


@pytest.mark.parametrize("counted", [False, True])
def test_masked_pixels_that_agree_have_no_loss(counted):
    shape = [BATCH, HEIGHT, WIDTH, 1]
    nothing = decoders.SpatialMask(np.zeros(shape, np.float32))
    # One decoder: each predicts something else where there is nothing.
    z, ours = features(), networks(True)[:1]
    target = tf.nn.softmax(ours[0].logits(0 * z))
    mask = np.ones(target.shape[:3], np.float32) if counted else None
    loss, (_, gradients) = fast(eager, z, target, ours, [nothing], masks=[mask])
    assert 0 <= loss < 1e-14
    for gradient in tf.nest.flatten(gradients):
        np.testing.assert_allclose(gradient, 0 * gradient, atol=1e-9)
