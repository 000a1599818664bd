# SPDX-License-Identifier: Apache-2.0
"""Changes of color that leave the geometry alone, each drawn at random.

Factors are those of torchvision's ColorJitter, which the papers' code uses.
Differs: the order is brightness, contrast, saturation, hue, not random.
"""

import tensorflow as tf

_LUMA = (0.299, 0.587, 0.114)


def strong(
    image, seed, *, jitter, jitter_rate, gray_rate, blur_rate, blur_sigma
):
    """Color jitter, gray and blur, each with its probability.

    Args:
      image: float32 [H, W, 3] in [0, 255].
      seed: int32 [2].
      jitter: (brightness, contrast, saturation, hue): factors are uniform in
        1 +- x, the hue turns by +-x of a full circle.
      jitter_rate: probability in [0, 1].
      gray_rate: probability in [0, 1].
      blur_rate: probability in [0, 1].
      blur_sigma: (low, high), standard deviation of the blur, pixels.

    Returns:
      float32 [H, W, 3] in [0, 255].

    Source: French et al., supplement of the color augmentation follow-up
    (jitter 0.8, gray 0.2); UniMatch (blur 0.5).
    """
    seeds = tf.unstack(tf.random.split(seed, 6), num=6)
    image = _maybe(
        jitter_rate, seeds[0], image, lambda x: _jitter(x, seeds[1], jitter)
    )
    image = _maybe(gray_rate, seeds[2], image, _gray)
    return _maybe(
        blur_rate, seeds[3], image, lambda x: _blur(x, seeds[4], blur_sigma)
    )


def _maybe(rate, seed, image, change):
    if rate == 0:
        return image
    drawn = tf.random.stateless_uniform([], seed) < rate
    return tf.cond(drawn, lambda: change(image), lambda: image)


def _gray(image):
    return _mix(image, tf.tile(_luma(), [1, 3]))


def _luma():
    return tf.constant(_LUMA)[:, None]


def _mix(image, matrix):
    """Colors times a matrix: a sum over three channels is slow otherwise."""
    colors = tf.reshape(image, [-1, 3]) @ matrix
    return tf.reshape(colors, tf.shape(image))


def _jitter(image, seed, amounts):
    draw = tf.random.stateless_uniform([4], seed, -1.0, 1.0)
    brightness, contrast, saturation, hue = tf.unstack(draw * amounts)
    image = tf.minimum(image * (1 + brightness), 255.0)
    mean = tf.reduce_mean(tf.reshape(image, [-1, 3]) @ _luma())
    image = _clip(image * (1 + contrast) - mean * contrast)
    gray = tf.tile(_luma(), [1, 3])
    image = _clip(_mix(image, (1 + saturation) * tf.eye(3) - saturation * gray))
    # The raw one: hue does not depend on the range, here [0, 255].
    return tf.raw_ops.AdjustHue(images=image, delta=hue)


def _clip(image):
    return tf.clip_by_value(image, 0.0, 255.0)


def _blur(image, seed, sigma_range):
    """Gaussian, cut at three times the largest standard deviation."""
    sigma = tf.random.stateless_uniform([], seed, *map(float, sigma_range))
    # No width at all is the limit of a small one, not 0 / 0.
    sigma = tf.maximum(sigma, 1e-3)
    radius = max(1, round(3 * sigma_range[1]))
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.nn.softmax(-0.5 * tf.square(offsets / sigma))
    return _blur_columns(_blur_columns(image, weights), weights)


def _blur_columns(image, weights):
    """[W, H, 3] from [H, W, 3]: each column is filtered and becomes a row.

    All of a row are channels, which a depthwise convolution takes together.
    """
    height, width, channels = tf.unstack(tf.shape(image))
    radius = weights.shape[0] // 2
    # A reflection of more than the image is not defined; edges repeat.
    index = tf.range(-radius, height + radius)
    index = tf.clip_by_value(index, 0, height - 1)
    rows = tf.gather(tf.reshape(image, [height, width * channels]), index)
    kernel = tf.tile(weights[:, None, None, None], [1, 1, width * channels, 1])
    rows = tf.nn.depthwise_conv2d(rows[None, :, None], kernel, [1] * 4, "VALID")
    rows = tf.reshape(rows, [height, width, channels])
    # What is known of the shape stays known.
    rows.set_shape(image.shape)
    return tf.transpose(rows, [1, 0, 2])
