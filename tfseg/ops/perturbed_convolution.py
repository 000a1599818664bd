# SPDX-License-Identifier: Apache-2.0
"""A 1x1 convolution without bias of features that are perturbed.

Of k decoders whose features are perturbed alike, forward and backward, without
the perturbed features: see `ops.sub_pixel_decoders`, which has the
perturbations of the same names.
"""

import tensorflow as tf

from tfseg.ops import sub_pixel_rows as sub_pixels


class _Convolution:
    """That of k decoders, whose features are perturbed alike.

    Args:
      features: float32 [B, h, w, D].
      kernels: float32 [D, k, C].
      perturbations: k of a kind.
      tails: their other weights, see `sub_pixel_rows.homogeneous`, and relu.
    """

    def __init__(self, features, kernels, perturbations, tails):
        self.channels, self.count, self.classes = kernels.shape
        self.rows = tf.reshape(features, [-1, self.channels])
        self.shape = tf.shape(features)
        self.kernels, self.perturbations = kernels, perturbations
        self.tails = tails

    @property
    def joint(self):
        """[D, k * C]: of all kernels."""
        return tf.reshape(self.kernels, [self.channels, -1])

    def clean(self):
        """[n, k, C]: of features that are not perturbed."""
        return self.by_decoder(self.rows @ self.joint)

    def by_decoder(self, values):
        """[.., k * C] as [n, k, C]."""
        return tf.reshape(values, [-1, self.count, self.classes])

    def clean_backward(self, gradient):
        gradient = tf.reshape(gradient, [-1, self.count * self.classes])
        kernels = tf.matmul(self.rows, gradient, transpose_a=True)
        return (
            tf.matmul(gradient, self.joint, transpose_b=True),
            self.by_decoder(kernels),
        )

    def stack(self, values, shape):
        """float32 [*shape, k, 1]."""
        values = [tf.cast(value, tf.float32) for value in values]
        values = tf.stack([tf.reshape(value, shape) for value in values], -1)
        return tf.stop_gradient(values)[..., tf.newaxis]

    def forward(self):
        """[n, k, C]."""
        raise NotImplementedError

    def zeros(self):
        """bool [n, k], where that is 0 for all classes; None: unknown."""
        return None

    def backward(self, gradient):
        """[n, D] of z and [D, k, C] of the kernels, from [n, k, C]."""
        raise NotImplementedError


class SpatialMask(_Convolution):
    """The mask of a pixel commutes with a 1x1 convolution."""

    def forward(self):
        self.mask = self.stack([p.mask for p in self.perturbations], [-1])
        return self.clean() * self.mask

    def zeros(self):
        return self.mask[..., 0] == 0

    def backward(self, gradient):
        return self.clean_backward(gradient * self.mask)


class ChannelMask(_Convolution):
    """That of a channel is one of the rows of the kernel, for each sample."""

    def forward(self):
        masks = [p.mask for p in self.perturbations]
        self.mask = self.stack(masks, [-1, self.channels])
        self.masked = self.by_sample(self.mask * self.kernels)
        rows = tf.reshape(self.rows, [self.shape[0], -1, self.channels])
        return self.by_decoder(rows @ self.masked)

    def by_sample(self, values):
        """[B, .., k * C]."""
        shape = [self.shape[0], -1, self.count * self.classes]
        return tf.reshape(values, shape)

    def backward(self, gradient):
        gradient = self.by_sample(gradient)
        rows = tf.reshape(self.rows, [self.shape[0], -1, self.channels])
        kernels = tf.matmul(rows, gradient, transpose_a=True)
        kernels = tf.reshape(kernels, [-1, *self.kernels.shape]) * self.mask
        z_gradient = tf.matmul(gradient, self.masked, transpose_b=True)
        return (
            tf.reshape(z_gradient, [-1, self.channels]),
            tf.reduce_sum(kernels, 0),
        )


class Factor(_Convolution):
    """One decoder after the other: each has as many numbers as z."""

    def forward(self):
        self.factors, results = [], [self.rows]
        for kernel, p in zip(
            tf.unstack(self.kernels, axis=1), self.perturbations
        ):
            with tf.control_dependencies([results[-1]]):
                factor = tf.cast(tf.stop_gradient(p.factor()), tf.float32)
                rows = self.scaled(self.rows, factor)
            self.factors.append(factor)
            results.append(rows @ kernel)
        return tf.stack(results[1:], 1)

    def scaled(self, values, factor):
        """[n, D] times [h, w, D]."""
        values = tf.reshape(values, self.shape) * factor
        return tf.reshape(values, tf.shape(self.rows))

    def backward(self, gradient):
        z_gradient, kernel_gradients = tf.zeros_like(self.rows), []
        gradients = tf.unstack(gradient, axis=1)
        kernels = tf.unstack(self.kernels, axis=1)
        for mine, kernel, factor in zip(gradients, kernels, self.factors):
            with tf.control_dependencies([z_gradient]):
                rows = self.scaled(self.rows, factor)
            kernel_gradients.append(tf.matmul(rows, mine, transpose_a=True))
            with tf.control_dependencies([kernel_gradients[-1]]):
                change = tf.matmul(mine, kernel, transpose_b=True)
            z_gradient += self.scaled(change, factor)
        return z_gradient, tf.stack(kernel_gradients, 1)


class Adversarial(_Convolution):
    """The direction is g W^T, of which W^T W and g [n, C] say everything."""

    def forward(self):
        clean = self.clean()
        by_sample = [self.shape[0], -1, self.count, self.classes]
        size = tf.cast(tf.reduce_prod(self.shape[1:]), tf.float32)
        gram = tf.einsum("dkc,dke->kce", self.kernels, self.kernels)
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
        for kernel, p in zip(
            tf.unstack(self.kernels, axis=1), self.perturbations
        ):
            noise = tf.cast(tf.stop_gradient(p.noise()), tf.float32)
            squares.append(tf.reduce_sum(tf.square(noise), [1, 2, 3]))
            rows = tf.reshape(noise, tf.shape(self.rows))
            projected.append(rows @ kernel)
        squares = tf.stack(squares, 1)[:, tf.newaxis, :, tf.newaxis]
        projected = tf.reshape(tf.stack(projected, 1), by_sample)
        return projected, _inverse_root(squares)

    def backward(self, gradient):
        z_gradient, kernels = self.clean_backward(gradient)
        inner = tf.einsum("nkc,nke->kce", self.source, gradient)
        return z_gradient, kernels + tf.einsum(
            "dkc,kce->dke", self.kernels, inner
        )


def _unit(gradient):
    """[B, hw, k, C] over its largest number; squares must not underflow."""
    largest = tf.reduce_max(tf.abs(gradient), [1, 3], keepdims=True)
    return tf.math.divide_no_nan(gradient, largest)


def _inverse_root(squares):
    """1 / sqrt(squares); 0 where they are 0."""
    return tf.math.divide_no_nan(1.0, tf.sqrt(squares))
