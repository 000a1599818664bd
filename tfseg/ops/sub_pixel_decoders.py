# SPDX-License-Identifier: Apache-2.0
"""Consistency of many sub-pixel decoders of one perturbed feature map.

A decoder is a 1x1 convolution without bias to the C classes, then L sub-pixel
convolutions: 1x1 to 4C with bias, ReLU, pixel shuffle. CCT trains K = 30 of
them beside the main one. What makes that affordable:

  - a sub-pixel stays a row, [n, 4, C] is [4n, C], so that nothing is shuffled:
    the kernels' channels are reordered once, and so is the target;
  - the first convolution is linear: a mask of pixels comes after it, on C
    channels, one of channels moves into its kernel, and an adversarial
    perturbation, a gradient through it, is known by its C channels as well;
  - a decoder takes the rows of an image block after block, forward and
    backward, on one core, then comes the next image or decoder; the target is
    in their order once for all. No map of logits exists;
  - a few decoders of a kind at a time: what grows with K is the gradients of
    their weights.

Source: Ouali et al., CVPR 2020 (arXiv 2003.09005), section 3.2 and supplement
7; official models/decoders.py and models/model.py:94-121, which keep all K
outputs.
"""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from tfseg.ops import perturbed_convolution as convolutions
from tfseg.ops import shapes, streaming
from tfseg.ops import sub_pixel_rows as sub_pixels

# Most decoders of a kind that are computed at a time. More are faster, and
# need memory for C channels at the size of z, several times each.
_TOGETHER = 8


class SpatialMask(NamedTuple):
    """z * mask; mask: float [B, h, w, 1]."""

    mask: Any


class Adversarial(NamedTuple):
    """z + radius * direction, the direction that changes a prediction most.

    See `ops.adversarial.direction`; the distance is the KL divergence.

    Attributes:
      noise: () -> float [B, h, w, D], the first direction; its size is of no
        importance. Called when the decoder's turn comes: there may be many.
      xi: root mean square of the change at which the gradient is taken, in
        the unit of z.
      radius: L2 norm of the perturbation of a sample; 0 where the gradient is.
      iterations: power iterations, the same for all decoders.
    """

    noise: Any
    xi: float
    radius: float
    iterations: int = 1


class ChannelMask(NamedTuple):
    """z * mask; mask: float [B, 1, 1, D], kept channels already scaled."""

    mask: Any


class Factor(NamedTuple):
    """z * factor.

    Attributes:
      factor: () -> float [h, w, D], 1 + noise, shared by the batch. Called
        when the decoder's turn comes: there may be many.
    """

    factor: Any


def consistency(
    z, target, weights, perturbations, mask=None, *, relu=True, distance=None
):
    """Mean distance of the decoders' predictions to the target.

    Its gradient, computed along with it, goes into z and into all weights;
    see `streaming.attach`. The target and the perturbations get none, and no
    gradient passes through the choice of an adversarial direction.

    Args:
      z: float [B, h, w, D].
      target: float [B, h * 2^L, w * 2^L, C], probabilities.
      weights: of each decoder, [first kernel [1, 1, D, C], then kernel
        [1, 1, C, 4C] and bias [4C] of each of the L sub-pixel convolutions],
        float32 variables or tensors; channel 4c + 2i + j is class c of row i,
        column j, as in PyTorch.
      perturbations: of each decoder, a SpatialMask, Adversarial, ChannelMask
        or Factor.
      mask: float [B, h * 2^L, w * 2^L] in {0, 1}; the distance of a pixel of 0
        is 0. None: all pixels count.
      relu: whether there is a ReLU before every shuffle.
      distance: (float32 logits [n, C], float32 target [n, C]) -> float32 [n],
        of each pixel. None: mean over the classes of the squared difference
        of the probabilities, for which nothing needs a tape.

    Returns:
      float32 scalar: mean over decoders and all pixels.

    Raises:
      ValueError: if there are no decoders, not as many perturbations as
        decoders, one of another kind, or a rank is wrong.
    """
    _check(z, target, weights, perturbations)
    tensors = [[tf.convert_to_tensor(w) for w in ours] for ours in weights]
    features = tf.cast(tf.stop_gradient(z), tf.float32)
    num_layers = (len(tensors[0]) - 1) // 2
    learn = functools.partial(
        _learn,
        features,
        sub_pixels.target_rows(_with_mask(target, mask), num_layers),
        _scale(target, len(weights), distance),
        relu,
        distance,
    )
    loss, z_gradient, gradients = 0.0, 0.0, {}
    for places in _groups(perturbations):
        # One after the other: memory is that of one.
        done = [loss, z_gradient, gradients] if gradients else []
        with tf.control_dependencies(tf.nest.flatten(done)):
            value, change, ours = learn(
                [tensors[k] for k in places],
                [perturbations[k] for k in places],
            )
            loss, z_gradient = loss + value, z_gradient + change
        gradients.update(zip(places, ours))
    return streaming.attach(
        loss,
        [z, *tf.nest.flatten(tensors)],
        [
            tf.reshape(z_gradient, tf.shape(z)),
            *(g for k in range(len(weights)) for g in gradients[k]),
        ],
    )


def _groups(perturbations):
    """Lists of places in `perturbations`, each of a kind."""
    for kind in _FIRST:
        places = [k for k, p in enumerate(perturbations) if type(p) is kind]
        count = -(-len(places) // _TOGETHER)
        for i in range(count):
            # Even ones, for each core the same.
            yield places[
                i * len(places) // count : (i + 1) * len(places) // count
            ]


def _learn(features, target, scale, relu, distance, weights, perturbations):
    """Of a group: loss, gradient of z [n, D], lists of those of weights."""
    kernels, *tails = (
        tf.stop_gradient(tf.stack(tensors)) for tensors in zip(*weights)
    )
    kernels = tf.reshape(kernels, [len(weights), *kernels.shape[3:]])
    layers = sub_pixels.homogeneous(tails)
    first = _FIRST[type(perturbations[0])](
        features, kernels, perturbations, (layers, relu)
    )
    loss, gradient, layer_gradients = sub_pixels.stream(
        layers,
        sub_pixels.learn(relu, distance),
        first.forward(),
        target,
        parts=tf.shape(features)[0],
    )
    z_gradient, kernel_gradients = first.backward(scale * gradient)
    gradients = [
        tf.reshape(kernel_gradients, [-1, 1, 1, *kernels.shape[1:]]),
        *sub_pixels.weight_gradients([scale * g for g in layer_gradients]),
    ]
    gradients = list(zip(*map(tf.unstack, gradients)))
    return scale * loss, z_gradient, gradients


def _check(z, target, weights, perturbations):
    shapes.check_rank("z", z, 4)
    shapes.check_rank("target", target, 4)
    if not weights or len(weights) != len(perturbations):
        raise ValueError(
            "`perturbations` must be one for each of one or more decoders. "
            f"Received: {len(perturbations)} for {len(weights)}."
        )
    iterations = {getattr(p, "iterations", None) for p in perturbations}
    if len(iterations - {None}) > 1 or 0 in iterations:
        raise ValueError(
            "`iterations` must be positive, the same for all decoders. "
            f"Received: iterations={sorted(iterations - {None})}."
        )
    for perturbation in perturbations:
        if type(perturbation) not in _FIRST:
            names = ", ".join(kind.__name__ for kind in _FIRST)
            raise ValueError(
                f"`perturbations` must be of {names}. "
                f"Received: {type(perturbation).__name__}."
            )


def _with_mask(target, mask):
    """The target, and one more channel of the mask if there is one."""
    if mask is None:
        return target
    mask = tf.cast(mask, tf.float32)[..., tf.newaxis]
    return tf.concat([tf.cast(target, tf.float32), mask], -1)


def _scale(target, num_decoders, distance):
    """Of the sum of distances, for their mean."""
    batch, height, width, classes = tf.unstack(tf.shape(target))
    count = num_decoders * batch * height * width
    if distance is None:
        # `_squared` sums the squares over the classes, and half of them.
        return 2.0 / tf.cast(count * classes, tf.float32)
    return 1.0 / tf.cast(count, tf.float32)


# The order in which the kinds are computed.
_FIRST = {
    SpatialMask: convolutions.SpatialMask,
    Adversarial: convolutions.Adversarial,
    ChannelMask: convolutions.ChannelMask,
    Factor: convolutions.Factor,
}
