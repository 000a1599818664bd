# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfseg.networks.layers import resize


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    "size", [(10, 14), (9, 13), (3, 4), (5, 7), (1, 1), (17, 20)]
)
def test_is_pytorch_interpolate(align_corners, size):
    vectors = golden.load("resize")
    name = f"ac_{align_corners}_{size[0]}x{size[1]}".lower()
    for call in (
        resize.bilinear,
        tf.function(resize.bilinear),
        tf.function(resize.bilinear, jit_compile=True),
    ):
        found = call(vectors["x"], size, align_corners=align_corners)
        np.testing.assert_allclose(found, vectors[name], atol=2e-6)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("before, after", [(5, 9), (9, 33), (16, 64), (64, 9)])
def test_xla_agrees_with_image_resize(align_corners, before, after):
    x = np.random.RandomState(0).randn(1, before, 3, 2).astype(np.float32)
    expected = tf.compat.v1.image.resize_bilinear(
        x,
        (after, 5),
        align_corners=align_corners,
        half_pixel_centers=not align_corners,
    )
    compiled = tf.function(resize.bilinear, jit_compile=True)
    found = compiled(x, (after, 5), align_corners=align_corners)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
def test_gradient_is_the_transpose(align_corners):
    # Bilinear maps are linear: <resize(x), g> = <x, gradient>.
    random = np.random.RandomState(0)
    x = tf.constant(random.randn(2, 4, 5, 3).astype(np.float32))
    g = random.randn(2, 7, 11, 3).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = resize.bilinear(x, (7, 11), align_corners=align_corners)
        inner = tf.reduce_sum(y * g)
    gradient = tape.gradient(inner, x)
    np.testing.assert_allclose(inner, tf.reduce_sum(x * gradient), rtol=1e-4)


def test_keeps_half_precision():
    x = tf.ones([1, 2, 2, 1], tf.bfloat16)
    assert resize.bilinear(x, (3, 3), align_corners=True).dtype == tf.bfloat16
