# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.ops import consistency, mixing

CALLS = pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
NAMES = pytest.mark.parametrize("name", sorted(consistency.DISTANCES))
# Logits of probabilities (1/4, 3/4) and (1/2, 1/2).
QUARTER = np.log([[[[1, 3]]]]).astype(np.float32)
HALF = np.zeros([1, 1, 1, 2], np.float32)


def _distance(name, student_logits, teacher_logits):
    target = consistency.target(name, teacher_logits)
    return consistency.distance(name, student_logits, target)


@CALLS
@NAMES
@pytest.mark.parametrize(
    "setting,threshold",
    [
        ("t97_mean", 0.97),
        ("t97_pix", 0.97),
        ("t0", 0),
        ("t0_ramp", 0),
        # Stored as "nothing confident", without its threshold: not 0.999,
        # which 3 of 80 pixels reach (largest probability 0.99986).
        ("t999_mean", 0.9999),
    ],
)
def test_agrees_with_official_code(wrap, name, setting, threshold):
    data = golden.load("cutmix_consistency")

    @wrap
    def run(student):
        teacher = mixing.mix(data["mask"], data["tea_u0"], data["tea_u1"])
        prob = tf.nn.softmax(teacher)
        certainty = consistency.certainty(teacher)
        confident = tf.cast(certainty >= threshold, tf.float32)
        confidence = {
            "t97_pix": confident,
            "t0": 1.0,
            "t0_ramp": 0.3,
        }.get(setting, tf.reduce_mean(confident))
        with tf.GradientTape() as tape:
            tape.watch(student)
            loss = consistency.consistency(
                _distance(name, student, teacher),
                data["um_mixed"][..., 0],
                confidence,
            )
        return loss, tape.gradient(loss, student), prob, confident

    loss, gradient, prob, confident = run(tf.constant(data["stu"]))
    np.testing.assert_allclose(prob, data["prob_tea"], atol=1e-6)
    if setting.startswith("t9"):
        np.testing.assert_allclose(
            tf.reduce_mean(confident), data[f"confrate_{setting}"], rtol=1e-6
        )
    np.testing.assert_allclose(
        loss, data[f"loss_{name}_{setting}"], rtol=1e-5, atol=0
    )
    np.testing.assert_allclose(
        gradient, data[f"grad_{name}_{setting}"], rtol=1e-4, atol=1e-8
    )


@CALLS
@pytest.mark.parametrize(
    "name,expected",
    [
        # (1/4 - 1/2)^2 + (3/4 - 1/2)^2 = 1/8
        ("var", 0.125),
        # both classes: -(1/2 log 1/4 + 1/2 log 3/4), epsilon aside
        ("bce", -np.log(3 / 16)),
        # log 1/2 - 1/2 (log 1/4 + log 3/4)
        ("kld", np.log(0.5) - 0.5 * np.log(3 / 16)),
        # logits (0, log 3) - (0, 0): (log 3)^2 / sqrt 2
        ("logits_var", np.log(3) ** 2 / np.sqrt(2)),
        # log 3 > 1: (log 3 - 1/2) / sqrt 2
        ("logits_smoothl1", (np.log(3) - 0.5) / np.sqrt(2)),
    ],
)
def test_hand_value(wrap, name, expected):
    distance = wrap(lambda s, t: _distance(name, s, t))
    value = distance(QUARTER, HALF)
    assert value.shape == (1, 1, 1) and value.dtype == tf.float32
    np.testing.assert_allclose(value[0, 0, 0], expected, rtol=1e-5)


def test_smooth_l1_is_quadratic_for_small_differences():
    # 2 * 0.5 * 0.5^2 / sqrt 2
    value = _distance("logits_smoothl1", HALF + 0.5, HALF)
    np.testing.assert_allclose(value[0, 0, 0], 0.25 / np.sqrt(2), rtol=1e-6)


@NAMES
def test_equal_predictions(name):
    logits = tf.random.stateless_normal([2, 3, 4, 5], [1, 2])
    value = _distance(name, logits, logits)
    if name == "bce":
        assert np.all(value > 0)
    else:
        np.testing.assert_allclose(value, 0, atol=1e-6)


@CALLS
@NAMES
def test_certain_teacher_gives_finite_loss_and_gradient(wrap, name):
    # softmax(+-200) is exactly 0 and 1 in float32.
    teacher = tf.constant([[[[200.0, -200.0]]]])

    @wrap
    def run(student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            loss = _distance(name, student, teacher)
        return loss, tape.gradient(loss, student)

    for student in (teacher, -teacher, 0 * teacher):
        loss, gradient = run(student)
        assert np.isfinite(loss).all() and np.isfinite(gradient).all()
    if name == "var":
        assert run(-teacher)[0] == 2


@NAMES
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    student, teacher = tf.cast(QUARTER, dtype), tf.cast(HALF, dtype)
    value = _distance(name, student, teacher)
    assert value.dtype == tf.float32
    np.testing.assert_allclose(
        value,
        _distance(name, tf.cast(student, tf.float32), HALF),
        rtol=1e-6,
    )


@NAMES
def test_teacher_gets_no_gradient(name):
    student, teacher = tf.constant(QUARTER), tf.constant(HALF)
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        loss = _distance(name, student, teacher)
    gradients = tape.gradient(loss, [student, teacher])
    assert gradients[0] is not None and gradients[1] is None


@CALLS
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_certainty_is_the_largest_probability(wrap, dtype):
    certainty = wrap(consistency.certainty)(tf.cast(QUARTER, dtype))
    assert certainty.shape == (1, 1, 1) and certainty.dtype == tf.float32
    np.testing.assert_allclose(certainty, 0.75, atol=2e-3)
    np.testing.assert_allclose(wrap(consistency.certainty)(HALF), 0.5)


@CALLS
@pytest.mark.parametrize("name", ["var", "bce", "kld"])
def test_target_may_be_less_than_a_distribution(wrap, name):
    """As it is where a prediction was warped in from outside."""
    nothing = np.zeros_like(HALF)
    value = wrap(lambda: consistency.distance(name, HALF, nothing))()
    # 2 * (1/2)^2; -2 log(1/2); 0
    expected = {"var": 0.5, "bce": 2 * np.log(2), "kld": 0}[name]
    np.testing.assert_allclose(value[0, 0, 0], expected, rtol=1e-5)


@CALLS
def test_consistency_divides_by_all_pixels(wrap):
    mean = wrap(consistency.consistency)
    distance = tf.constant([[[2.0, 4.0], [6.0, 8.0]]])
    valid = tf.constant([[[True, False], [True, True]]])
    # (2 + 6 + 8) / 4, then halved; per pixel (2 + 8) / 4.
    assert mean(distance, valid, 1.0) == 4
    assert mean(distance, tf.cast(valid, tf.float32), 0.5) == 2
    per_pixel = tf.constant([[[1.0, 1.0], [0.0, 1.0]]])
    assert mean(distance, valid, per_pixel) == 2.5
    assert mean(distance, tf.zeros_like(valid), 1.0) == 0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="bce.*Received: 'mse'"):
        consistency.distance("mse", QUARTER, HALF)
    with pytest.raises(ValueError, match="`target`"):
        consistency.distance("var", QUARTER, HALF[0])
    with pytest.raises(ValueError, match="`teacher_logits`"):
        consistency.certainty(HALF[0])
    ones = np.ones([2, 3, 3])
    with pytest.raises(ValueError, match="`valid`"):
        consistency.consistency(ones, ones[..., None], 1.0)
    with pytest.raises(ValueError, match="`confidence`"):
        consistency.consistency(ones, ones, ones[..., None])
