# SPDX-License-Identifier: Apache-2.0
import collections
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.ops import adversarial, consistency

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
# No two sizes alike.
SHAPE = (2, 6, 7, 3)


def normal(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def network(seed=1, hidden=6):
    """conv3x3, tanh, conv1x1 to five classes."""
    first = 0.4 * normal(3, 3, 3, hidden, seed=seed)
    second = normal(1, 1, hidden, 5, seed=seed + 1)

    def predict(image):
        hidden = tf.tanh(tf.nn.conv2d(image, first, 1, "SAME"))
        return tf.nn.conv2d(hidden, second, 1, "SAME")

    return predict


def direction(
    predict, image, noise, reference=None, name="kld", factor=1.0, **options
):
    """`adversarial.direction`, of `factor` times a named distance."""
    reference = image if reference is None else reference
    return adversarial.direction(
        predict,
        tf.convert_to_tensor(image),
        consistency.target(name, predict(reference)),
        noise,
        distance=lambda s, t: factor * consistency.distance(name, s, t),
        **{"xi": 0.01, **options},
    )


def norms(values):
    return np.sqrt(np.sum(np.square(values, dtype=np.float64), (1, 2, 3)))


def cosines(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.sum(a * b, (1, 2, 3)) / (norms(a) * norms(b))


def kld(predict, image, change):
    """Per image: sum over pixels of KL(f(image), f(image + change))."""
    target = consistency.target("kld", predict(image))
    distance = consistency.distance("kld", predict(image + change), target)
    return tf.reduce_sum(distance, [1, 2]).numpy()


def official(data):
    """The network of the golden vectors."""

    def predict(image):
        hidden = tf.nn.conv2d(image, data["conv1_w"], 1, "SAME")
        hidden = tf.tanh(hidden + data["conv1_b"])
        logits = tf.nn.conv2d(hidden, data["conv2_w"], 1, "SAME")
        return logits + data["conv2_b"]

    return predict


@pytest.mark.parametrize(
    "name,norm,views",
    [
        (name, norm, views)
        for name in ("kld", "var")
        for norm in ("0.01", "0.1", "1")
        for views in ("same", "diff")
    ]
    + [("bce", "0.1", "diff"), ("logits_var", "0.1", "diff")],
)
def test_direction_agrees_with_official_code(name, norm, views):
    data = golden.load("vat_input")
    image = data["x_hat"] if views == "diff" else data["x"]
    # The official size is the norm of an image's noise.
    xi = float(norm) / np.sqrt(image[0].size)
    result = direction(
        official(data), image, data["noise"], data["x"], name, xi=xi
    )
    expected = data[f"dir_{name}_xi{norm}_{views}_64"]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


@CALLS
def test_perturbation_agrees_with_official_code(wrap):
    data = golden.load("vat_input")
    image = data["x_hat"]
    xi = 0.1 / np.sqrt(image[0].size)
    unit = wrap(
        lambda: direction(
            official(data), image, data["noise"], data["x"], xi=xi
        )
    )()
    adaptive = wrap(adversarial.adaptive_radius)(image)
    np.testing.assert_allclose(
        adaptive, data["adaptive_radius_x_hat"], rtol=1e-6
    )
    fixed = wrap(lambda x: adversarial.fixed_radius(x, 0.05))(image)
    for radius, key in (
        (adaptive, "pert_adaptive_kld_xi0.1_diff"),
        (fixed, "pert_fixed_r0.05_kld_xi0.1_diff"),
    ):
        change = tf.reshape(radius, [-1, 1, 1, 1]) * unit
        np.testing.assert_allclose(norms(change), radius, rtol=1e-5)
        np.testing.assert_allclose(change, data[key], rtol=0, atol=2e-3)


@CALLS
def test_adaptive_radius_by_hand(wrap):
    radius = wrap(adversarial.adaptive_radius)
    # Rows of one channel: 0 1 4 / 0 1 4 / 3 1 4. Down 3, right 4, 4 and 1.
    image = np.array([[0, 1, 4], [0, 1, 4], [3, 1, 4]], np.float32)
    image = image[np.newaxis, ..., np.newaxis]
    expected = 0.5 * np.sqrt(9 + 16 + 16 + 1)
    np.testing.assert_allclose(radius(image), [expected], rtol=1e-6)
    two = np.concatenate([image, image], -1)
    np.testing.assert_allclose(radius(two), [expected * np.sqrt(2)], rtol=1e-6)
    # Without the lower left pixel neither 3 nor 1 counts.
    valid = np.ones([1, 3, 3], bool)
    valid[0, 2, 0] = False
    image[0, 2, 0] = np.nan
    np.testing.assert_allclose(
        radius(image, valid), [0.5 * np.sqrt(32)], rtol=1e-6
    )
    np.testing.assert_array_equal(radius(image, valid & False), [0])


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (5, 2)])
def test_radius_of_constant_and_of_small_images_is_zero(size):
    constant = tf.fill([2, *size, 3], 77.0)
    np.testing.assert_array_equal(adversarial.adaptive_radius(constant), [0, 0])
    random = normal(2, *size, 3)
    assert np.isfinite(adversarial.adaptive_radius(random)).all()


@CALLS
def test_fixed_radius_counts_valid_values(wrap):
    valid = np.ones([2, 4, 5], bool)
    valid[1, 2:] = False
    image = tf.zeros([2, 4, 5, 3])
    run = wrap(lambda v: adversarial.fixed_radius(image, 2.0, v))
    np.testing.assert_allclose(
        run(valid), [2 * np.sqrt(60), 2 * np.sqrt(30)], rtol=1e-6
    )
    np.testing.assert_allclose(
        adversarial.fixed_radius(image, 2.0), [2 * np.sqrt(60)] * 2, rtol=1e-6
    )


def test_changes_more_than_random_directions():
    predict = network()
    image, noise = normal(*SHAPE, seed=3), normal(*SHAPE, seed=4)
    unit = direction(predict, image, noise)
    np.testing.assert_allclose(norms(unit), 1, rtol=1e-5)
    for radius in (0.1, 1.0):
        adversarial_kld = kld(predict, image, radius * unit)
        random_kld = []
        for seed in range(100):
            random = normal(*SHAPE, seed=100 + seed)
            random *= radius / norms(random)[:, None, None, None]
            random_kld.append(kld(predict, image, random))
        # Each of the images, and not barely.
        assert np.all(adversarial_kld > 2 * np.mean(random_kld, 0))
        assert np.all(adversarial_kld > np.max(random_kld, 0))


@pytest.mark.parametrize("name", ["kld", "var", "logits_var"])
def test_iterations_converge_to_the_dominant_eigenvector(name):
    # logits = image . matrix, so the second derivative of the distance is
    # matrix . M . matrix', with M of each pixel known for each distance.
    matrix = 0.3 * normal(12, 4 * 3, seed=5)
    image, noise = normal(2, 2, 2, 3, seed=6), normal(2, 2, 2, 3, seed=7)

    def predict(x):
        return tf.reshape(tf.reshape(x, [-1, 12]) @ matrix, [-1, 2, 2, 3])

    dominant = []
    for logits in image.reshape(2, 12) @ matrix:
        middle = np.zeros([12, 12])
        for pixel in range(4):
            part = slice(3 * pixel, 3 * pixel + 3)
            prob = np.exp(logits[part]) / np.exp(logits[part]).sum()
            fisher = np.diag(prob) - np.outer(prob, prob)
            middle[part, part] = {
                "kld": fisher,
                "var": 2 * fisher @ fisher,
                "logits_var": 2 / np.sqrt(3) * np.eye(3),
            }[name]
        values, vectors = np.linalg.eigh(matrix @ middle @ matrix.T)
        # A clear winner, else the test would need more iterations.
        assert values[-1] > 1.15 * values[-2]
        dominant.append(vectors[:, -1].reshape(2, 2, 3))
    agreement = [
        np.abs(
            cosines(
                direction(
                    predict, image, noise, name=name, iterations=iterations
                ),
                np.array(dominant),
            )
        )
        for iterations in (1, 3, 32)
    ]
    assert agreement[0].mean() < agreement[1].mean() < agreement[2].mean()
    assert np.all(agreement[2] > 0.999)


@CALLS
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("padding", [0.0, 1e9, np.nan])
def test_padding_changes_nothing(wrap, iterations, padding):
    kernel = normal(1, 1, 3, 5)

    def predict(image):
        return tf.nn.conv2d(tf.tanh(image), kernel, 1, "SAME")

    image, noise = normal(*SHAPE, seed=3), normal(2, 8, 9, 3, seed=4)
    inner = noise[:, 1:-1, 2:]
    expected = direction(predict, image, inner, iterations=iterations)
    margins = [[0, 0], [1, 1], [2, 0], [0, 0]]
    padded = np.pad(image, margins, constant_values=padding)
    valid = np.pad(np.ones(SHAPE[:3], bool), margins[:3])
    run = wrap(
        lambda: direction(
            predict, padded, noise, iterations=iterations, valid=valid
        )
    )
    result = run().numpy()
    np.testing.assert_array_equal(result[~valid], 0)
    np.testing.assert_allclose(result[:, 1:-1, 2:], expected, atol=1e-5)
    np.testing.assert_allclose(
        adversarial.adaptive_radius(padded, valid),
        adversarial.adaptive_radius(image),
        rtol=1e-6,
    )


@CALLS
def test_is_the_gradient_of_the_valid_distances(wrap):
    predict = network()
    image, other, noise = (normal(*SHAPE, seed=seed) for seed in (3, 4, 5))
    valid = np.random.RandomState(6).uniform(size=SHAPE[:3]) < 0.7
    noise *= valid[..., np.newaxis]
    size = np.sqrt(3 * valid.sum((1, 2))) / norms(noise)
    moved = image + 0.1 * size[:, None, None, None] * noise
    moved = tf.constant(moved, tf.float32)
    target = consistency.target("var", predict(other))
    with tf.GradientTape() as tape:
        tape.watch(moved)
        distance = consistency.distance("var", predict(moved), target)
        total = tf.reduce_sum(distance[valid])
    expected = tape.gradient(total, moved) * valid[..., np.newaxis]
    expected /= norms(expected)[:, None, None, None]
    run = wrap(
        lambda: direction(
            predict, image, noise, other, "var", xi=0.1, valid=valid
        )
    )
    np.testing.assert_allclose(run(), expected, atol=1e-5)


@CALLS
def test_step_is_xi_per_valid_value(wrap):
    seen = []
    image, valid = normal(*SHAPE, seed=3), np.ones(SHAPE[:3], bool)
    valid[1, 3:] = False

    def predict(x):
        tf.py_function(lambda x: seen.append(x.numpy()), [x], [])
        return x

    noise = normal(*SHAPE, seed=4)
    run = wrap(lambda: direction(predict, image, noise, xi=0.5, valid=valid))
    run()
    step = seen[-1] - image
    np.testing.assert_array_equal(step[~valid], 0)
    for row in range(2):
        square = np.mean(np.square(step[row][valid[row]]))
        np.testing.assert_allclose(np.sqrt(square), 0.5, rtol=1e-5)


@CALLS
def test_gets_and_gives_no_gradient_under_a_tape(wrap):
    image, noise = tf.constant(normal(*SHAPE)), normal(*SHAPE, seed=1)
    weight = tf.Variable(2.0)
    predict = network()

    @wrap
    def run(image):
        with tf.GradientTape() as tape:
            tape.watch(image)
            unit = direction(lambda x: predict(weight * x), image, noise)
            radius = adversarial.adaptive_radius(image)
        unused = tape.gradient([unit, radius], [image, weight])
        assert unused == [None, None]
        return unit

    expected = direction(lambda x: predict(2.0 * x), image, noise)
    np.testing.assert_allclose(run(image), expected, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 2])
def test_graph_holds_one_forward_and_one_backward_pass(iterations):
    image, noise = tf.constant(normal(*SHAPE)), normal(*SHAPE, seed=1)
    predict = network()

    def bare():
        for _ in range(iterations):
            with tf.GradientTape() as tape:
                tape.watch(image)
                logits = predict(image)
            yield tape.gradient(logits, image)

    def trained(weight):
        """The loss of a step on x + r, differentiated by the weight."""
        with tf.GradientTape() as tape:
            tape.watch(weight)
            unit = direction(
                lambda x: predict(weight * x),
                image,
                noise,
                reference=noise,
                iterations=iterations,
            )
            loss = tf.reduce_sum(weight * unit)
        return tape.gradient(loss, weight)

    def convolutions(function, *arguments):
        graph = tf.function(function).get_concrete_function(*arguments).graph
        return collections.Counter(
            op.type for op in graph.get_operations() if "Conv2D" in op.type
        )

    expected = convolutions(lambda: list(bare()))
    assert expected["Conv2DBackpropInput"] == 2 * iterations
    # And the pass that computes the target.
    expected["Conv2D"] += 2
    assert convolutions(trained, tf.constant(1.0)) == expected


def test_compiles_with_xla():
    image, noise = normal(*SHAPE, seed=3), normal(*SHAPE, seed=4)
    valid = np.ones(SHAPE[:3], bool)
    valid[:, 4:] = False

    def run(image):
        unit = direction(network(), image, noise, iterations=2, valid=valid)
        return unit, adversarial.adaptive_radius(image, valid)

    for result, expected in zip(
        tf.function(run, jit_compile=True)(tf.constant(image)), run(image)
    ):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_unknown_sizes():
    predict = network()
    image, noise = normal(*SHAPE, seed=3), normal(*SHAPE, seed=4)
    spec = tf.TensorSpec([None, None, None, 3])
    run = tf.function(
        lambda x, n: direction(predict, x, n), input_signature=[spec, spec]
    )
    expected = direction(predict, image, noise)
    np.testing.assert_allclose(run(image, noise), expected, atol=1e-5)


def test_bad_arguments_are_refused():
    image, noise = normal(*SHAPE), normal(*SHAPE)
    run = functools.partial(direction, network())
    with pytest.raises(ValueError, match="`xi`.*xi=0, iterations=1"):
        run(image, noise, xi=0)
    with pytest.raises(ValueError, match="`iterations`.*iterations=0"):
        run(image, noise, iterations=0)
    with pytest.raises(ValueError, match="`noise`"):
        run(image, noise[0])
    with pytest.raises(ValueError, match="`valid`"):
        run(image, noise, valid=image > 0)
    with pytest.raises(ValueError, match="`image`"):
        adversarial.adaptive_radius(image[0])
    with pytest.raises(ValueError, match="`valid`"):
        adversarial.fixed_radius(image, 1.0, image > 0)
