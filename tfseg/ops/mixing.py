# SPDX-License-Identifier: Apache-2.0
"""Two images, or two of anything with pixels, into one."""

import tensorflow as tf

from tfseg.ops import shapes


def mix(mask, first, second):
    """`second` where the mask is set, `first` elsewhere.

    Args:
      mask: bool, or a number in {0, 1}, [B, H, W, 1] or [B, H, W].
      first: any dtype, [B, H, W, ...] of rank 3 (labels, validity) or rank 4
        (images, logits, probabilities).
      second: dtype and rank of `first`.

    Returns:
      Dtype and shape of `first`.

    Raises:
      ValueError: if a rank is wrong.

    Source: French et al. supplement D.3: x0 (1 - M) + x1 M. Differs: selects
    instead of multiplying, so labels mix too, and NaN does not spread.
    """
    shapes.check_rank("mask", mask, (3, 4))
    shapes.check_rank("first", first, (3, 4))
    shapes.check_rank("second", second, len(first.shape))
    mask = tf.cast(mask, tf.float32) > 0.5
    if len(mask.shape) == 4 and len(first.shape) == 3:
        mask = tf.squeeze(mask, -1)
    if len(mask.shape) == 3 and len(first.shape) == 4:
        mask = mask[..., tf.newaxis]
    return tf.where(mask, second, first)


def cut(mask, image, color):
    """The image where the mask is set, one color elsewhere (Cutout).

    Args:
      mask: bool, or a number in {0, 1}, [B, H, W, 1] or [B, H, W].
      image: float32 [B, H, W, 3].
      color: RGB in [0, 255]; the official code fills with what is 0 to the
        network.

    Returns:
      float32 [B, H, W, 3].

    Source: French et al. supplement D.2.
    """
    color = tf.broadcast_to(tf.constant(color, image.dtype), tf.shape(image))
    return mix(mask, color, image)


def blend(share, first, second):
    """(1 - share) * first + share * second, each image with its own share.

    Args:
      share: float32 [B], in [0, 1].
      first: float32 [B, ...].
      second: float32 [B, ...] of the same shape.

    Returns:
      float32 [B, ...].

    Raises:
      ValueError: if the rank of `share` is wrong.

    Source: French et al. supplement D.1.2 (ICT).
    """
    shapes.check_rank("share", share, 1)
    shapes.check_rank("second", second, len(first.shape))
    ones = [1] * (len(first.shape) - 1)
    share = tf.reshape(share, [-1, *ones])
    return (1 - share) * first + share * second


def pairs(x):
    """Neighbors of a batch as partners: rows 0, 2, 4... and 1, 3, 5...

    Cutting an even batch over replicas does not change who meets whom.

    Args:
      x: [B, ...], B even, or 1.

    Returns:
      Two tensors [B / 2, ...]; a batch of one is its own partner.

    Raises:
      ValueError: if B is odd, and known when tracing.
      tf.errors.InvalidArgumentError: if B is odd, and known only when running.
    """
    message = (
        "The unlabeled batch per replica must be even, or 1: neighbors are "
        "mixed. Set config.train.unlabeled_batch to a multiple of twice the "
        "number of replicas."
    )
    size = x.shape[0]
    if size == 1:
        return x, x
    if size is not None and size % 2:
        raise ValueError(f"{message} Received: {size}.")
    if size is not None:
        return _rows(x, range(0, size, 2)), _rows(x, range(1, size, 2))
    size = tf.shape(x)[0]
    even_or_one = tf.logical_or(size % 2 == 0, size == 1)
    with tf.control_dependencies(
        [tf.debugging.Assert(even_or_one, [message, size])]
    ):
        partners = tf.minimum(tf.range(1, size + 1, 2), size - 1)
    return _rows(x, tf.range(0, size, 2)), _rows(x, partners)


def _rows(x, places):
    # On a CPU about four times as fast as a slice with a stride.
    return tf.gather(x, tf.convert_to_tensor(places))
