# SPDX-License-Identifier: Apache-2.0
"""The mean loss of many branches, with the memory of one.

The gradient of a mean of losses needs, for each of them, its activations, and
no two of them at a time: each branch goes forward and backward before the
next one starts. The gradients are computed together with the loss and handed
to the tape that asks for them.
"""

import tensorflow as tf

# Root mean square of the gradient that enters a branch at its logits. In
# float16 the sums over an image must not overflow, nor small weights lose it.
_UPSTREAM_SIZE = 2.0**-8


def attach(value, tensors, gradients):
    """`value`, with these gradients.

    Args:
      value: float scalar.
      tensors: list of float tensors or variables.
      gradients: of the value with respect to each of them, of the same
        shapes; None for 0.

    Returns:
      `value`. Its gradient with respect to tensors[i] is gradients[i] times
      the upstream one, multiplied in the precision of gradients[i] and then
      cast to the dtype of the tensor: loss scaling comes before half
      precision. Nothing else in `value` has a gradient.

    Raises:
      ValueError: if there are not as many gradients as tensors.
    """
    if len(tensors) != len(gradients):
        raise ValueError(
            "`gradients` must be one for each tensor. "
            f"Received: {len(gradients)} for {len(tensors)}."
        )
    value = tf.stop_gradient(value)
    # Of a variable, the tape sees a read of it.
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    pairs = [pair for pair in zip(tensors, gradients) if pair[1] is not None]
    if not pairs:
        return value
    tensors, gradients = zip(*pairs)

    @tf.custom_gradient
    def identity(*tensors):
        def backward(upstream):
            return [
                tf.cast(tf.cast(upstream, gradient.dtype) * gradient, x.dtype)
                for gradient, x in zip(gradients, tensors)
            ]

        return tf.identity(value), backward

    return identity(*tensors)


def mean(branches, features):
    """Mean over branches of the loss of their logits, one at a time.

    Call it inside a tf.function: an eager tape around it would keep the
    activations of all branches.

    Args:
      branches: list of (predict, variables, loss); predict: features ->
        logits, loss: float32 logits -> float32 scalar, or that and a tensor
        to report. What else they do (BatchNorm statistics) is done once.
        Gradients reach the features and these variables; others get none.
      features: tensor, or structure of tensors; those that are not floating
        (an image size) are passed on.

    Returns:
      float32 scalar, see `attach`; if the losses have something to report,
      that and the mean of it, without gradient.

    Raises:
      ValueError: if there are no branches.
    """
    if not branches:
        raise ValueError("`branches` must not be empty. Received: [].")
    inputs = tf.nest.map_structure(tf.stop_gradient, features)
    watched = [x for x in tf.nest.flatten(features) if x.dtype.is_floating]
    variables = {v.ref(): v for _, owned, _ in branches for v in owned}
    total, reported, sums = 0.0, [], {}
    for predict, owned, loss in branches:
        # What the branch before has left waits for nothing but the sums.
        done = [total, *sums.values()]
        with tf.control_dependencies([x for x in done if tf.is_tensor(x)]):
            inputs = tf.nest.map_structure(tf.identity, inputs)
        value, report, parts = _gradients(predict, owned, inputs, loss)
        total += value
        reported += report
        keys = [*range(len(watched)), *(v.ref() for v in owned)]
        for key, part in zip(keys, parts):
            if part is not None:
                sums[key] = sums[key] + part if key in sums else part
    keys = [*range(len(watched)), *variables]
    share = 1.0 / len(branches)
    result = attach(
        share * total,
        [*watched, *variables.values()],
        [share * sums[key] if key in sums else None for key in keys],
    )
    if not reported:
        return result
    return result, tf.stop_gradient(share * tf.add_n(reported))


def _gradients(predict, variables, inputs, loss):
    """Loss, list of what it reports, float32 gradients to the sources.

    Those are the floating inputs and the variables.
    """
    sources = [x for x in tf.nest.flatten(inputs) if x.dtype.is_floating]
    sources += variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        logits = predict(inputs)
    exact = tf.cast(logits, tf.float32)
    with tf.GradientTape(watch_accessed_variables=False) as loss_tape:
        loss_tape.watch(exact)
        value = loss(exact)
        value, *report = value if isinstance(value, tuple) else (value,)
    upstream = loss_tape.gradient(
        value, exact, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    size = _root_mean_square(upstream)
    upstream *= tf.math.divide_no_nan(_UPSTREAM_SIZE, size)
    parts = tape.gradient(
        logits, sources, output_gradients=tf.cast(upstream, logits.dtype)
    )
    factor = size / _UPSTREAM_SIZE
    return (
        value,
        report,
        [
            None if part is None else factor * tf.cast(part, tf.float32)
            for part in parts
        ],
    )


def _root_mean_square(values):
    """float32 scalar; of values whose squares may leave the range."""
    largest = tf.reduce_max(tf.abs(values))
    values = tf.math.divide_no_nan(values, largest)
    return largest * tf.sqrt(tf.reduce_mean(tf.square(values)))
