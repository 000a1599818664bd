# SPDX-License-Identifier: Apache-2.0
"""Sub-pixel convolutions on rows, forward and backward, block by block.

See `ops.sub_pixel_decoders`. A row of C channels becomes 4 rows of C channels
by one matrix product; where its image is needs no mention until the target
comes in. A column of ones carries the bias, and brings its gradient.
"""

import tensorflow as tf

# Most numbers in a block of logits. A block takes some forty operations; in one
# of a fourth, whose tensors fit the cache of a core, they take longer to start
# than that saves.
_BLOCK = 3 * 2**19
# Decoders in flight: two fill the cores where an operation has one thread.
_PARALLEL = 2


def homogeneous(weights):
    """Kernels and biases of K decoders as one matrix for each layer.

    Args:
      weights: of each decoder, [kernel [1, 1, C, 4C], bias [4C], ...].

    Returns:
      List over layers of float32 [K, C + 1, 4 * (C + 1)]; the last one
      [K, C + 1, 4C]. Channels are sorted by sub-pixel, then class.
    """
    layers = []
    by_tensor = [tf.stack(tensors) for tensors in zip(*weights)]
    for kernel, bias in zip(by_tensor[::2], by_tensor[1::2]):
        count, _, _, classes, _ = kernel.shape
        kernel = tf.reshape(kernel, [count, classes, classes, 4])
        bias = tf.reshape(bias, [count, 1, classes, 4])
        matrix = tf.transpose(tf.concat([kernel, bias], 1), [0, 1, 3, 2])
        one = tf.one_hot([classes] * 4, classes + 1, axis=0)[..., tf.newaxis]
        ones = tf.broadcast_to(one, [count, classes + 1, 4, 1])
        layers.append(tf.concat([matrix, ones], -1))
    layers[-1] = layers[-1][..., :-1]
    return [tf.reshape(w, [*w.shape[:2], 4 * w.shape[3]]) for w in layers]


def weight_gradients(gradients):
    """Undoes `homogeneous`.

    Args:
      gradients: list over layers, shapes as `homogeneous` returns them.

    Returns:
      List over decoders of [kernel [1, 1, C, 4C], bias [4C], ...].
    """
    by_tensor = []
    for gradient in gradients:
        count, inputs, _ = gradient.shape
        classes = inputs - 1
        gradient = tf.reshape(gradient, [count, inputs, 4, -1])
        gradient = tf.transpose(gradient[..., :classes], [0, 1, 3, 2])
        gradient = tf.reshape(gradient, [count, inputs, 4 * classes])
        kernel = gradient[:, tf.newaxis, tf.newaxis, :classes]
        by_tensor += [tf.unstack(kernel), tf.unstack(gradient[:, classes])]
    return [list(tensors) for tensors in zip(*by_tensor)]


def target_rows(target, num_layers):
    """The targets in the order of the rows of logits.

    Args:
      target: [B, h * 2^L, w * 2^L, C].
      num_layers: L.

    Returns:
      float32 [B * h * w, 4^L * C], those of each row of the first layer.
    """
    batch, height, width, classes = tf.unstack(tf.shape(target))
    side = 2**num_layers
    place = tf.range(batch * height * width)
    twos = [2] * num_layers
    shape = [batch * height // side, *twos, width // side, *twos]
    pairs = [(1 + i, num_layers + 2 + i) for i in range(num_layers)]
    axes = [0, num_layers + 1, *(axis for pair in pairs for axis in pair)]
    place = tf.reshape(tf.transpose(tf.reshape(place, shape), axes), [-1])
    flat = tf.reshape(tf.cast(target, tf.float32), [-1, classes])
    width = side * side * target.shape[-1]
    return tf.stop_gradient(tf.reshape(tf.gather(flat, place), [-1, width]))


def stream(weights, step, rows, target=None):
    """Runs a step on every block of rows of every decoder.

    Args:
      weights: see `homogeneous`.
      step: (rows [n, F], target [n * 4^L, C] or None, weights of a decoder)
        -> (loss, gradient [n, C], list of gradients of weights, or []).
      rows: float32 [N, K, F].
      target: see `target_rows`, or None.

    Returns:
      Sum of the losses, gradient [N, K, C], and the sums of the gradients of
      the weights.
    """
    count = rows.shape[1]
    classes, pixels = weights[0].shape[1] - 1, 4 ** len(weights)
    most = max(1, _BLOCK // (classes * pixels))
    total = tf.shape(rows)[0]
    num_blocks = (total + most - 1) // most
    # Even ones: a small rest costs as many operations.
    block = (total + num_blocks - 1) // tf.maximum(num_blocks, 1)
    number = count * num_blocks
    arrays = [
        tf.TensorArray(
            tf.float32, number, infer_shape=False, element_shape=[None, classes]
        )
    ]
    if target is not None:
        arrays += [tf.TensorArray(tf.float32, number) for _ in weights]

    def one(i, loss, *arrays):
        decoder, place = i // num_blocks, i % num_blocks
        part = slice(place * block, (place + 1) * block)
        goal = None
        if target is not None:
            goal = tf.reshape(target[part], [-1, target.shape[1] // pixels])
        mine, gradient, changes = step(
            rows[part, decoder], goal, [w[decoder] for w in weights]
        )
        arrays = [
            array.write(i, value)
            for array, value in zip(arrays, (gradient, *changes))
        ]
        return (i + 1, loss + mine, *arrays)

    _, loss, gradient, *changes = tf.while_loop(
        lambda i, *_: i < number,
        one,
        (0, 0.0, *arrays),
        parallel_iterations=_PARALLEL,
    )
    gradient = tf.reshape(gradient.concat(), [count, total, classes])
    sums = [
        tf.reduce_sum(
            tf.reshape(change.stack(), [count, num_blocks, *weight.shape[1:]]),
            1,
        )
        for change, weight in zip(changes, weights)
    ]
    return loss, tf.transpose(gradient, [1, 0, 2]), sums


def forward(rows, weights, relu):
    """Inputs of all layers, rows with a one at their end, and the logits.

    Args:
      rows: float32 [n, C].
      weights: of one decoder, see `homogeneous`.
      relu: whether there is a ReLU after every product.

    Returns:
      List over layers of [.., C + 1], and float32 [n * 4^L, C].
    """
    ones = tf.ones([tf.shape(rows)[0], 1])
    inputs = [tf.concat([rows, ones], 1)]
    for weight in weights:
        output = inputs[-1] @ weight
        output = tf.nn.relu(output) if relu else output
        inputs.append(tf.reshape(output, [-1, weight.shape[1] // 4]))
    return inputs[:-1], inputs[-1]


def backward(inputs, logits, gradient, weights, relu, with_weights=True):
    """Gradient of the rows [n, C], and those of the weights.

    Args:
      inputs, logits: see `forward`.
      gradient: of the logits.
      weights, relu: see `forward`.
      with_weights: False leaves out those of the weights.
    """
    outputs = [*inputs[1:], logits]
    changes = []
    for x, output, weight in zip(inputs[::-1], outputs[::-1], weights[::-1]):
        if relu:
            gradient = tf.raw_ops.ReluGrad(gradients=gradient, features=output)
        gradient = tf.reshape(gradient, [-1, weight.shape[1]])
        if with_weights:
            changes.append(tf.matmul(x, gradient, transpose_a=True))
        gradient = tf.matmul(gradient, weight, transpose_b=True)
    return gradient[:, :-1], changes[::-1]


def learn(relu, distance=None):
    """The step, for `stream`, of a distance to the target.

    Args:
      relu: see `forward`.
      distance: (logits [n, C], target [n, C]) -> [n]; None: half the squared
        difference of the probabilities, summed over the classes. A target of
        one more column has there which of its rows count.
    """
    measure = _squared if distance is None else _by_tape(distance)

    def step(rows, target, weights):
        inputs, logits = forward(rows, weights, relu)
        classes = logits.shape[1]
        mask = target[:, classes:] if target.shape[1] > classes else None
        loss, gradient = measure(logits, target[:, :classes], mask)
        return loss, *backward(inputs, logits, gradient, weights, relu)

    return step


def _squared(logits, target, mask):
    prob = tf.nn.softmax(logits)
    difference = prob - target
    if mask is not None:
        difference *= mask
    loss = tf.nn.l2_loss(difference)
    # After the loss, the product needs no memory but the difference's.
    with tf.control_dependencies([loss]):
        product = prob * difference
    # Columns of ones sum faster over so few columns than a reduction does.
    ones = tf.ones([logits.shape[1], 1])
    return loss, product - prob * (product @ ones)


def _by_tape(distance):
    def measure(logits, target, mask):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(logits)
            distances = distance(logits, target)
            if mask is not None:
                distances *= mask[:, 0]
            loss = tf.reduce_sum(distances)
        return loss, tape.gradient(
            loss, logits, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    return measure


def divergence(relu):
    """The step of the KL divergence from a prediction to a changed one.

    Its rows are those of the features and the change, side by side; its
    gradient is of the change, without those of the weights.
    """

    def step(rows, target, weights):
        del target
        clean, change = tf.split(rows, 2, 1)
        _, logits = forward(clean, weights, relu)
        prob = tf.nn.softmax(logits)
        inputs, logits = forward(clean + change, weights, relu)
        slope = tf.nn.softmax(logits) - prob
        return 0.0, *backward(inputs, logits, slope, weights, relu, False)

    return step
