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
    in their order once for all. No map of logits exists.
    What grows with K is C channels at the size of z, 1/4^L of such a map.

Source: Ouali et al., CVPR 2020 (arXiv 2003.09005), section 3.2 and supplement
7; official models/decoders.py and models/model.py:94-121, which keep all K
outputs.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tfseg.ops import shapes, streaming
from tfseg.ops import sub_pixel_rows as sub_pixels


class SpatialMask(NamedTuple):
    """z * mask; mask: float [B, h, w, 1]."""

    mask: Any


class Adversarial(NamedTuple):
    """z + radius * direction, the direction that changes a prediction most.

    See `ops.adversarial.direction`; the distance is the KL divergence.

    Attributes:
      noise: float [B, h, w, D], the first direction; its size is of no
        importance.
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
    """z * factor; factor: float [h, w, D], 1 + noise, shared by the batch."""

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
    kinds = [type(perturbation) for perturbation in perturbations]
    order = sorted(
        range(len(weights)), key=lambda k: list(_FIRST).index(kinds[k])
    )
    tensors = [[tf.convert_to_tensor(w) for w in weights[k]] for k in order]
    constants = tf.nest.map_structure(tf.stop_gradient, tensors)
    kernels = tf.stack([w[0][0, 0] for w in constants])
    layers = sub_pixels.homogeneous([w[1:] for w in constants])
    features = tf.cast(tf.stop_gradient(z), tf.float32)
    first = []
    for kind, make in _FIRST.items():
        places = [i for i, k in enumerate(order) if kinds[k] is kind]
        if places:
            part = slice(places[0], places[-1] + 1)
            ours = [perturbations[k] for k in order[part]]
            tails = [w[part] for w in layers], relu
            first.append(make(features, kernels[part], ours, tails))
    loss, gradient, layer_gradients = sub_pixels.stream(
        layers,
        sub_pixels.learn(relu, distance),
        tf.concat([part.forward() for part in first], 1),
        sub_pixels.target_rows(_with_mask(target, mask), len(layers)),
        parts=tf.shape(z)[0],
    )
    scale = _scale(target, len(weights), distance)
    z_gradient, kernel_gradients = _backward(first, scale * gradient)
    gradients = [
        [tf.reshape(kernel, w[0].shape), *rest]
        for kernel, rest, w in zip(
            tf.unstack(kernel_gradients),
            sub_pixels.weight_gradients([scale * g for g in layer_gradients]),
            tensors,
        )
    ]
    return streaming.attach(
        scale * loss,
        [z, *tf.nest.flatten(tensors)],
        [tf.reshape(z_gradient, tf.shape(z)), *tf.nest.flatten(gradients)],
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


def _backward(first, gradient):
    """[n, D] of z and [K, D, C] of the kernels, from [n, K, C]."""
    sizes = [part.kernels.shape[0] for part in first]
    z_gradient, kernel_gradients = 0.0, []
    for part, mine in zip(first, tf.split(gradient, sizes, 1)):
        part_gradient, kernel_gradient = part.backward(mine)
        z_gradient += part_gradient
        kernel_gradients.append(kernel_gradient)
    return z_gradient, tf.concat(kernel_gradients, 0)


class _First:
    """The first convolution of k decoders on features perturbed alike.

    Args:
      features: float32 [B, h, w, D].
      kernels: float32 [k, D, C].
      perturbations: k of a kind.
      tails: their other weights, see `sub_pixel_rows.homogeneous`, and relu.
    """

    def __init__(self, features, kernels, perturbations, tails):
        self.rows = tf.reshape(features, [-1, kernels.shape[1]])
        self.shape = tf.shape(features)
        self.kernels, self.perturbations = kernels, perturbations
        self.tails = tails

    @property
    def joint(self):
        """[D, k * C]: of all kernels."""
        joint = tf.transpose(self.kernels, [1, 0, 2])
        return tf.reshape(joint, [self.kernels.shape[1], -1])

    def clean(self):
        """[n, k, C]: of features that are not perturbed."""
        count, _, classes = self.kernels.shape
        return tf.reshape(self.rows @ self.joint, [-1, count, classes])

    def clean_backward(self, gradient):
        count, channels, classes = self.kernels.shape
        gradient = tf.reshape(gradient, [-1, count * classes])
        kernels = tf.matmul(self.rows, gradient, transpose_a=True)
        kernels = tf.reshape(kernels, [channels, count, classes])
        return (
            tf.matmul(gradient, self.joint, transpose_b=True),
            tf.transpose(kernels, [1, 0, 2]),
        )

    def stack(self, values, shape):
        """float32 [*shape] with the k of them at its second place."""
        values = [tf.cast(value, tf.float32) for value in values]
        values = tf.stack([tf.reshape(value, shape) for value in values], 1)
        return tf.stop_gradient(values)

    def forward(self):
        """[n, k, C]."""
        raise NotImplementedError

    def backward(self, gradient):
        """[n, D] of z and [k, D, C] of the kernels, from [n, k, C]."""
        raise NotImplementedError


class _SpatialMask(_First):
    """The mask of a pixel commutes with a 1x1 convolution."""

    def forward(self):
        self.mask = self.stack([p.mask for p in self.perturbations], [-1, 1])
        return self.clean() * self.mask

    def backward(self, gradient):
        return self.clean_backward(gradient * self.mask)


class _ChannelMask(_First):
    """That of a channel is one of the rows of the kernel, for each sample."""

    def forward(self):
        count, channels, classes = self.kernels.shape
        masks = [p.mask for p in self.perturbations]
        self.mask = self.stack(masks, [-1, channels])[..., tf.newaxis]
        masked = tf.transpose(self.mask * self.kernels, [0, 2, 1, 3])
        self.masked = tf.reshape(masked, [-1, channels, count * classes])
        rows = tf.reshape(self.rows, [self.shape[0], -1, channels])
        return tf.reshape(rows @ self.masked, [-1, count, classes])

    def backward(self, gradient):
        count, channels, classes = self.kernels.shape
        gradient = tf.reshape(gradient, [self.shape[0], -1, count * classes])
        rows = tf.reshape(self.rows, [self.shape[0], -1, channels])
        kernels = tf.matmul(rows, gradient, transpose_a=True)
        kernels = tf.reshape(kernels, [-1, channels, count, classes])
        kernels = tf.transpose(kernels, [0, 2, 1, 3]) * self.mask
        z_gradient = tf.matmul(gradient, self.masked, transpose_b=True)
        return (
            tf.reshape(z_gradient, [-1, channels]),
            tf.reduce_sum(kernels, 0),
        )


class _Factor(_First):
    """One decoder after the other: each has as many numbers as z."""

    def scaled(self, values, number, after):
        """values [n, D] times the factor, once `after` is there."""
        with tf.control_dependencies([after]):
            factor = tf.cast(self.perturbations[number].factor, tf.float32)
        values = tf.reshape(values, self.shape) * tf.stop_gradient(factor)
        return tf.reshape(values, tf.shape(self.rows))

    def forward(self):
        results = [self.rows]
        for number, kernel in enumerate(tf.unstack(self.kernels)):
            rows = self.scaled(self.rows, number, results[-1])
            results.append(rows @ kernel)
        return tf.stack(results[1:], 1)

    def backward(self, gradient):
        z_gradient, kernel_gradients = tf.zeros_like(self.rows), []
        gradients = tf.unstack(gradient, axis=1)
        for number, kernel in enumerate(tf.unstack(self.kernels)):
            rows = self.scaled(self.rows, number, z_gradient)
            kernel_gradients.append(
                tf.matmul(rows, gradients[number], transpose_a=True)
            )
            change = tf.matmul(gradients[number], kernel, transpose_b=True)
            z_gradient += self.scaled(change, number, kernel_gradients[-1])
        return z_gradient, tf.stack(kernel_gradients)


class _Adversarial(_First):
    """The direction is g W^T, of which W^T W and g [n, C] say everything."""

    def forward(self):
        clean = self.clean()
        count, channels, classes = self.kernels.shape
        by_sample = [self.shape[0], -1, count, classes]
        size = tf.cast(tf.reduce_prod(self.shape[1:]), tf.float32)
        gram = tf.matmul(self.kernels, self.kernels, transpose_a=True)
        projected, factor = self.noise(by_sample)
        xi, radius = (
            tf.constant([getattr(p, name) for p in self.perturbations])
            for name in ("xi", "radius")
        )
        xi = tf.sqrt(size) * xi[:, tf.newaxis]
        weights, step = self.tails[0], sub_pixels.divergence(self.tails[1])
        for _ in range(self.perturbations[0].iterations):
            change = tf.reshape(xi * factor * projected, tf.shape(clean))
            both = tf.concat([clean, change], -1)
            _, gradient, _ = sub_pixels.stream(
                weights, step, both, parts=self.shape[0]
            )
            gradient = _unit(tf.reshape(gradient, by_sample))
            projected = tf.einsum("bnkc,kcd->bnkd", gradient, gram)
            squared = tf.reduce_sum(gradient * projected, [1, 3], True)
            factor = _inverse_root(squared)
        factor *= radius[:, tf.newaxis]
        self.source = tf.reshape(factor * gradient, tf.shape(clean))
        return clean + tf.reshape(factor * projected, tf.shape(clean))

    def noise(self, by_sample):
        """Noise W [B, hw, k, C], and one over its norm [B, 1, k, 1]."""
        projected, squares = [], []
        for kernel, p in zip(tf.unstack(self.kernels), self.perturbations):
            noise = tf.cast(tf.stop_gradient(p.noise), tf.float32)
            squares.append(tf.reduce_sum(tf.square(noise), [1, 2, 3]))
            rows = tf.reshape(noise, tf.shape(self.rows))
            projected.append(rows @ kernel)
        squares = tf.stack(squares, 1)[:, tf.newaxis, :, tf.newaxis]
        projected = tf.reshape(tf.stack(projected, 1), by_sample)
        return projected, _inverse_root(squares)

    def backward(self, gradient):
        z_gradient, kernels = self.clean_backward(gradient)
        inner = tf.einsum("nkc,nkd->kcd", self.source, gradient)
        return z_gradient, kernels + self.kernels @ inner


def _unit(gradient):
    """[B, hw, k, C] over its largest number; squares must not underflow."""
    largest = tf.reduce_max(tf.abs(gradient), [1, 3], keepdims=True)
    return tf.math.divide_no_nan(gradient, largest)


def _inverse_root(squares):
    """1 / sqrt(squares); 0 where they are 0."""
    return tf.math.divide_no_nan(1.0, tf.sqrt(squares))


# The order in which the decoders are computed.
_FIRST = {
    SpatialMask: _SpatialMask,
    Adversarial: _Adversarial,
    ChannelMask: _ChannelMask,
    Factor: _Factor,
}
