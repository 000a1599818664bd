# SPDX-License-Identifier: Apache-2.0
"""Class activation maps, and the pseudo labels that they give.

Source: Ouali et al., CVPR 2020 (arXiv 2003.09005), weak labels; official
pseudo_labels/, which is Ahn et al.'s IRN (arXiv 1904.05044). The dense CRF of
the official code, between thresholds and label, is not here.
"""

import tensorflow as tf

from tfseg.ops import shapes

# Of the official code: a class without any activation is divided by it.
_EPSILON = 1e-5


def multi_scale_maps(look, image, scales):
    """Activation maps of one image, added up over scales and both mirrorings.

    Args:
      look: function, float32 [2, h, w, 3] in [0, 255] -> float [2, h', w', K],
        activation maps of K classes before they are resized; called once per
        scale, with the image and its mirror image.
      image: float [H, W, 3] in [0, 255]; H and W may be dynamic.
      scales: positive floats, sizes relative to the image.

    Returns:
      float32 [H, W, K], not negative.

    Raises:
      ValueError: if the rank is wrong, or the scales are none or not positive.

    Source: official make_cam.py. The image is resized with `tf.image.resize`,
    method "bicubic", anti-aliased and cut to [0, 255], which is PIL's, but for
    the rounding to whole numbers. Differs: maps are resized to the image, in
    the official code to the next multiple of 16, of which the part that is
    the image is kept.
    """
    shapes.check_rank("image", image, 3)
    scales = tuple(float(scale) for scale in scales)
    if not scales or not all(scale > 0 for scale in scales):
        raise ValueError(
            f"`scales` must be positive numbers. Received: scales={scales}."
        )
    image = tf.cast(image, tf.float32)
    return tf.add_n([_maps(look, image, scale) for scale in scales])


def normalized(maps, classes):
    """Maps of the classes that an image shows, each with a maximum of 1.

    Args:
      maps: float32 [H, W, K], not negative, see `multi_scale_maps`.
      classes: float32 [K] in {0, 1}, the classes that the image shows.

    Returns:
      float32 [H, W, K] in [0, 1]; 0 for all other classes.

    Raises:
      ValueError: if a rank or the number of classes is wrong.

    Source: official make_cam.py; 1e-5 is added to the maximum, so that a
    class without activation has a map of zeros.
    """
    maps, shown = _checked(maps, classes)
    maximum = tf.reduce_max(maps, [0, 1])
    return tf.where(shown, maps / (maximum + _EPSILON), 0.0)


def pseudo_label(maps, classes, *, foreground, background):
    """A label where maps are high, the background where all are low.

    Args:
      maps: float32 [H, W, K], `normalized`.
      classes: float32 [K] in {0, 1}, the classes that the image shows; maps
        of others do not count.
      foreground: a pixel whose highest map is above it has that class; of
        equal ones the first.
      background: a pixel whose highest map is not above it is background.

    Returns:
      int32 [H, W]: class 1..K, 0 = background, 255 = between the thresholds.
      All background if the image shows no class.

    Raises:
      ValueError: if a rank or the number of classes is wrong, or unless
        0 <= background <= foreground <= 1.

    Source: official cam_to_pseudo_labels.py:24-37, where each threshold is an
    additional map and the highest wins; there 0.30 and 0.05. Differs: no CRF.
    """
    if not 0 <= background <= foreground <= 1:
        raise ValueError(
            "`foreground` and `background` must be thresholds with 0 <= "
            "background <= foreground <= 1. Received: "
            f"foreground={foreground}, background={background}."
        )
    maps, shown = _checked(maps, classes)
    maps = tf.where(shown, maps, 0.0)
    highest = tf.reduce_max(maps, -1)
    label = 1 + tf.argmax(maps, -1, output_type=tf.int32)
    between = tf.where(highest > background, 255, 0)
    return tf.where(highest > foreground, label, between)


def _maps(look, image, scale):
    scaled = _rescaled(image, scale)
    pair = tf.stack([scaled, tf.reverse(scaled, [1])])
    maps = tf.nn.relu(tf.cast(look(pair), tf.float32))
    both = maps[0] + tf.reverse(maps[1], [1])
    return tf.image.resize(both, tf.shape(image)[:2], "bilinear")


def _rescaled(image, scale):
    if scale == 1:
        return image
    size = tf.round(scale * tf.cast(tf.shape(image)[:2], tf.float32))
    size = tf.maximum(tf.cast(size, tf.int32), 1)
    image = tf.image.resize(image, size, "bicubic", antialias=True)
    # Bicubic interpolation goes beyond the values that it lies between.
    return tf.clip_by_value(image, 0.0, 255.0)


def _checked(maps, classes):
    """float32 maps and bool classes, of which there are equally many."""
    maps = tf.cast(maps, tf.float32)
    shown = tf.cast(classes, tf.bool)
    shapes.check_rank("maps", maps, 3)
    shapes.check_rank("classes", shown, 1)
    if not maps.shape[-1:].is_compatible_with(shown.shape):
        raise ValueError(
            "`classes` must say of each map whether the image shows its class, "
            "without the background. Received: "
            f"{shown.shape[0]} classes, {maps.shape[-1]} maps."
        )
    return maps, shown
