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
  - masked pixels all have the same prediction, which is compared with the sum
    of their targets;
  - a few decoders of a kind at a time: what grows with K is the gradients of
    their weights.

Source: Ouali et al., CVPR 2020 (arXiv 2003.09005), section 3.2 and supplement
7; official models/decoders.py and models/model.py:94-121, which keep all K
outputs.
"""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from tfseg.ops import cores
from tfseg.ops import perturbed_convolution as convolutions
from tfseg.ops import shapes, streaming
from tfseg.ops import sub_pixel_rows as sub_pixels

# Most decoders of a kind that are computed at a time. Each needs memory for C
# channels at the size of z, several times.
_TOGETHER = 16


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
    num_layers = (len(tensors[0]) - 1) // 2
    learn = functools.partial(
        _learn,
        tf.cast(tf.stop_gradient(z), tf.float32),
        _given(target, mask, num_layers, distance),
        _scale(target, len(weights), distance),
        relu,
        distance,
    )
    constants = tf.nest.map_structure(tf.stop_gradient, tensors)
    loss, z_gradient, gradients = _learn_all(learn, constants, perturbations)
    return streaming.attach(
        loss,
        [z, *tf.nest.flatten(tensors)],
        [tf.reshape(z_gradient, tf.shape(z)), *tf.nest.flatten(gradients)],
    )


def _learn_all(learn, weights, perturbations):
    """Loss, gradient of z [n, D], list over decoders of those of weights.

    Args:
      learn: see `_learn`, of the kernels, layers and perturbations of a group.
      weights, perturbations: see `consistency`.
    """
    groups = _groups(perturbations)
    order = [k for group in groups for k in group]
    layers = sub_pixels.homogeneous([weights[k][1:] for k in order])
    loss, z_gradient, kernel_gradients, layer_gradients = 0.0, 0.0, [], []
    for group in groups:
        start = len(kernel_gradients)
        # One after the other, but for the end of a group's backward pass.
        with tf.control_dependencies([tf.convert_to_tensor(loss)]):
            value, change, kernels, changes = learn(
                tf.stack([weights[k][0][0, 0] for k in group], 1),
                [layer[start : start + len(group)] for layer in layers],
                [perturbations[k] for k in group],
            )
            loss, z_gradient = loss + value, z_gradient + change
        kernel_gradients += tf.unstack(kernels, axis=1)
        layer_gradients.append(changes)
    layer_gradients = [tf.concat(parts, 0) for parts in zip(*layer_gradients)]
    gradients = [
        [tf.reshape(kernel, weights[0][0].shape), *rest]
        for kernel, rest in zip(
            kernel_gradients, sub_pixels.weight_gradients(layer_gradients)
        )
    ]
    by_place = [gradients[order.index(k)] for k in range(len(order))]
    return loss, z_gradient, by_place


def _groups(perturbations):
    """Lists of places in `perturbations`, each of a kind."""
    groups = []
    for kind in _FIRST:
        places = [k for k, p in enumerate(perturbations) if type(p) is kind]
        count = -(-len(places) // _TOGETHER)
        for i in range(count):
            # Even ones, for each core the same.
            part = slice(
                i * len(places) // count, (i + 1) * len(places) // count
            )
            groups.append(places[part])
    return groups


def _learn(
    features, given, scale, relu, distance, kernels, layers, perturbations
):
    """Of a group of k decoders with first kernels [D, k, C].

    Returns:
      Loss, gradients of z [n, D], of the kernels, and a list over the other
      layers.
    """
    first = _FIRST[type(perturbations[0])](
        features, kernels, perturbations, (layers, relu)
    )
    rows = first.forward()
    zeros = None
    if distance is None and cores.are_ours():
        zeros = first.zeros()
    loss, changes = 0.0, [0.0] * len(layers)
    if zeros is not None:
        loss, changes = sub_pixels.learn_zeros(layers, relu, given, zeros)
    # After it, for the sake of the memory.
    with tf.control_dependencies([tf.convert_to_tensor(loss)]):
        more, gradient, others = sub_pixels.stream(
            layers,
            sub_pixels.learn(relu, distance),
            rows,
            given,
            parts=tf.shape(features)[0],
            kept=None if zeros is None else ~zeros,
        )
    loss += more
    changes = [a + b for a, b in zip(changes, others)]
    return (
        scale * loss,
        *first.backward(scale * gradient),
        [scale * change for change in changes],
    )


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


def _given(target, mask, num_layers, distance):
    """What `sub_pixel_rows.learn` is given."""
    if mask is None:
        return [sub_pixels.in_rows(target, num_layers)]
    target = tf.cast(target, tf.float32)
    mask = tf.cast(mask, tf.float32)[..., tf.newaxis]
    if distance is None:
        target *= mask
    return [sub_pixels.in_rows(x, num_layers) for x in (target, mask)]


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
