# SPDX-License-Identifier: Apache-2.0
"""Dilated convolution, computed in the way that is fastest here.

keras.layers.Conv2D dilates by cutting the map into rate x rate smaller ones,
which costs several times the convolution where the rate is not small against
the map. There are two ways around that:

The operation tf.nn.conv2d takes dilations itself. On a CPU only oneDNN's
kernels have its gradient, for float32 and bfloat16. They are fast for the
gradient with respect to the input, but slow for that of the kernel (up to
fifty times as slow as the products below) and, in bfloat16, for more than
about a thousand input channels.

By taps: a tap is one element of the kernel, a matrix of input by output
channels. Its share in the result is a matrix product over that part of the
map which it does not lead out of; at rate 18 on a 16x16 map one tap is left of
nine. The shares are summed in float32, also in half precision. With few output
channels one product over the whole map gives the shares of all taps, because
cutting out the wide input tap by tap would cost more than it saves.
"""

import functools
import itertools
from typing import NamedTuple

import tensorflow as tf
from tensorflow import keras

from tfseg.networks import base

IMPLEMENTATIONS = ("auto", "native", "taps")

# Measured on two cores with avx512 and amx, batches of 1 to 8, maps of 8x8 to
# 65x65, rates of 2 to 36: up to this number of input channels the operation
# is the faster one for the kernel gradient and for the result, whatever the
# size of the map.
NATIVE_KERNEL_GRADIENT_CHANNELS = 256
NATIVE_RESULT_CHANNELS = 1024
# Up to this number of output channels one product for all taps is faster.
NARROW_FILTERS = 64


class Steps(NamedTuple):
    """Which of the three computations of a convolution go by taps."""

    result: bool
    input_gradient: bool
    kernel_gradient: bool


class Conv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D with the same variables and the same result.

    Args:
      implementation: "native" (tf.nn.conv2d, or what Keras does where that
        has no gradient), "taps", or "auto": native on a GPU or TPU, else the
        faster one for each of the result and the two gradients.
      **options: of keras.layers.Conv2D; stride 1, one group, odd kernel,
        channels last.
    """

    def __init__(self, *, implementation="auto", **options):
        base.check_choice("implementation", implementation, IMPLEMENTATIONS)
        super().__init__(**options)
        self.implementation = implementation
        self._check_options()

    def get_config(self):
        return {**super().get_config(), "implementation": self.implementation}

    def convolution_op(self, inputs, kernel):
        steps = self.steps_by_taps(inputs.dtype, inputs.shape[-1])
        if not any(steps) and not has_gradient(inputs.dtype.name):
            return super().convolution_op(inputs, kernel)
        kernel = tf.convert_to_tensor(kernel)
        return _convolve(
            inputs, kernel, self.dilation_rate, self.padding, steps
        )

    def steps_by_taps(self, dtype, channels):
        """Steps, for inputs of this dtype and number of channels."""
        if self.implementation == "taps":
            return Steps(True, True, True)
        if self.implementation == "native" or _has_accelerator():
            return Steps(False, False, False)
        if not has_gradient(tf.as_dtype(dtype).name):
            return Steps(True, True, True)
        return Steps(
            result=channels > NATIVE_RESULT_CHANNELS,
            input_gradient=False,
            kernel_gradient=channels > NATIVE_KERNEL_GRADIENT_CHANNELS,
        )

    def _check_options(self):
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(
                "`kernel_size` must be odd. "
                f"Received: kernel_size={self.kernel_size}."
            )
        if set(self.strides) != {1} or self.groups != 1:
            raise ValueError(
                "`strides` and `groups` must be 1 in a dilated convolution. "
                f"Received: strides={self.strides}, groups={self.groups}."
            )
        if self.data_format != "channels_last":
            raise ValueError(
                "`data_format` must be 'channels_last'. "
                f"Received: data_format={self.data_format!r}."
            )


def _has_accelerator():
    return any(map(tf.config.get_visible_devices, ("GPU", "TPU")))


@functools.lru_cache(maxsize=None)
def has_gradient(dtype):
    """Whether tf.nn.conv2d with dilations can be differentiated here.

    TensorFlow does not say it, so this asks for the gradient of one pixel.

    Args:
      dtype: name of a floating dtype.
    """
    with tf.init_scope():
        pixel = tf.zeros([1, 1, 1, 1], dtype)
        kernel = tf.zeros([3, 3, 1, 1], dtype)
        try:
            _Native(pixel, kernel, (2, 2), "same").input_gradient(pixel, kernel)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


def _convolve(x, kernel, rates, padding, steps):
    """[B, H, W, C] and [rows, columns, C, filters] -> [B, H', W', filters]."""
    native = _Native(x, kernel, rates, padding)
    if not any(steps):
        return native.result(x, kernel)
    taps = _Taps(x, kernel, rates, padding)
    forward, input_side, kernel_side = (
        taps if by_taps else native for by_taps in steps
    )

    @tf.custom_gradient
    def run(x, kernel):
        def gradient(upstream):
            return (
                input_side.input_gradient(upstream, kernel),
                kernel_side.kernel_gradient(x, upstream),
            )

        return forward.result(x, kernel), gradient

    return run(x, kernel)


class _Native:
    """The three computations by TensorFlow's own operations."""

    def __init__(self, x, kernel, rates, padding):
        self.shapes = tf.shape(x), tf.shape(kernel)
        self.options = dict(
            strides=[1, 1, 1, 1],
            padding=padding.upper(),
            dilations=[1, *rates, 1],
        )

    def result(self, x, kernel):
        return tf.nn.conv2d(x, kernel, **self.options)

    def input_gradient(self, upstream, kernel):
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=self.shapes[0],
            filter=kernel,
            out_backprop=upstream,
            **self.options,
        )

    def kernel_gradient(self, x, upstream):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x,
            filter_sizes=self.shapes[1],
            out_backprop=upstream,
            **self.options,
        )


class _Tap(NamedTuple):
    """One element of the kernel and the rectangle that it leads to another.

    Positions and lengths are int, or int32 scalars where the size of the map
    is not known before it runs.
    """

    element: tuple  # row and column in the kernel
    source: tuple  # first row and column that it reads
    target: tuple  # first row and column that it contributes to
    lengths: tuple  # rows and columns of both; not 0 if int


class _Taps:
    """The same three computations by matrix products, see the module."""

    def __init__(self, x, kernel, rates, padding):
        self.kernel_shape = kernel.shape
        self.narrow = kernel.shape[3] <= NARROW_FILTERS
        self.input_size = _shape(x)[1:3]
        self.output_size, axes = [], []
        for size, num, rate in zip(self.input_size, kernel.shape, rates):
            reach = rate * (num - 1)
            margin = reach // 2 if padding == "same" else 0
            self.output_size.append(size + 2 * margin - reach)
            offsets = [rate * index - margin for index in range(num)]
            axes.append(_spans(size, self.output_size[-1], offsets))
        self.taps = [
            _Tap(*zip(row, column)) for row, column in itertools.product(*axes)
        ]

    def result(self, x, kernel):
        if self.narrow:
            shares = _product(x, self._side_by_side(kernel))
            parts = [
                _cut(share, tap.source, tap.lengths)
                for share, tap in zip(self._split(shares), self.taps)
            ]
        else:
            parts = [
                _product(_cut(x, tap.source, tap.lengths), kernel[tap.element])
                for tap in self.taps
            ]
        return _sum(
            _place(part, tap.target, self.output_size)
            for part, tap in zip(parts, self.taps)
        )

    def input_gradient(self, upstream, kernel):
        if self.narrow:
            kernel = self._side_by_side(kernel)
            return _product(self._spread(upstream), kernel, transpose_b=True)
        parts = (
            _product(
                _cut(upstream, tap.target, tap.lengths),
                kernel[tap.element],
                transpose_b=True,
            )
            for tap in self.taps
        )
        return _sum(
            _place(part, tap.source, self.input_size)
            for part, tap in zip(parts, self.taps)
        )

    def kernel_gradient(self, x, upstream):
        if self.narrow:
            matrices = self._split(_correlation(x, self._spread(upstream)))
        else:
            matrices = [
                _correlation(
                    _cut(x, tap.source, tap.lengths),
                    _cut(upstream, tap.target, tap.lengths),
                )
                for tap in self.taps
            ]
        found = {tap.element: m for tap, m in zip(self.taps, matrices)}
        nothing = tf.zeros(self.kernel_shape[2:], x.dtype)
        rows, columns = self.kernel_shape[:2]
        elements = itertools.product(range(rows), range(columns))
        return tf.reshape(
            tf.stack([found.get(element, nothing) for element in elements]),
            self.kernel_shape,
        )

    def _side_by_side(self, kernel):
        """[C, taps * filters]."""
        return tf.concat([kernel[tap.element] for tap in self.taps], -1)

    def _split(self, values):
        """The inverse, for the last axis of any tensor: a list."""
        return tf.split(values, len(self.taps), -1)

    def _spread(self, upstream):
        """[B, H, W, taps * filters]: what each tap sends back to a pixel."""
        return tf.concat(
            [
                _place(
                    _cut(upstream, tap.target, tap.lengths),
                    tap.source,
                    self.input_size,
                )
                for tap in self.taps
            ],
            -1,
        )


def _shape(x):
    """A list of int, or int32 scalars where they are not known yet."""
    dynamic = tf.shape(x)
    return [
        dynamic[axis] if length is None else length
        for axis, length in enumerate(x.shape)
    ]


def _spans(size, result, offsets):
    """Of an axis: (index, source, target, length) per tap that leads inside.

    Args:
      size, result: of the map that is read and of the one that is written.
      offsets: int, source minus target, per tap.
    """
    if isinstance(size, int):
        least, greatest = min, max
    else:
        least, greatest = tf.minimum, tf.maximum
    spans = []
    for index, offset in enumerate(offsets):
        # Of a tap that leads outside, an empty piece at the end.
        source = least(max(0, offset), size)
        target = least(max(0, -offset), result)
        length = greatest(0, least(size - offset, result) - target)
        if isinstance(length, int) and length == 0:
            continue
        spans.append((index, source, target, length))
    return spans


def _cut(x, start, lengths):
    (top, left), (height, width) = start, lengths
    return x[:, top : top + height, left : left + width]


def _place(x, start, size):
    """Zeros of this size with `x` at `start`."""
    margins = [
        [first, total - first - length]
        for first, total, length in zip(start, size, _shape(x)[1:3])
    ]
    return tf.pad(x, [[0, 0], *margins, [0, 0]])


def _product(x, matrix, transpose_b=False):
    """[B, H, W, C] times [C, D], or [D, C] transposed: [B, H, W, D]."""
    y = tf.matmul(_rows(x), matrix, transpose_b=transpose_b)
    return tf.reshape(y, [*_shape(x)[:3], y.shape[1]])


def _correlation(x, y):
    """[B, H, W, C] and [B, H, W, D]: [C, D], summed over the pixels."""
    return tf.matmul(_rows(x), _rows(y), transpose_a=True)


def _rows(x):
    return tf.reshape(x, [-1, x.shape[3]])


def _sum(values):
    """Sum of tensors of one dtype, in float32 if that has only 16 bits."""
    values = list(values)
    dtype = values[0].dtype
    if dtype.size < 4:
        values = [tf.cast(value, tf.float32) for value in values]
    return tf.cast(tf.add_n(values), dtype)
