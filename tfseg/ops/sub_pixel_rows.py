# SPDX-License-Identifier: Apache-2.0
"""Sub-pixel convolutions on rows, forward and backward, block by block.

See `ops.sub_pixel_decoders`. A row of C channels becomes 4 rows of C channels
by one matrix product; where its image is needs no mention until the target
comes in. A column of ones carries the bias, and brings its gradient.
"""

import tensorflow as tf

from tfseg.ops import cores

# Most numbers in a block of logits, of which each core has one in hand: few
# enough for the caches, and so many that the operations outlast their start.
_BLOCK = 3 * 2**17
# Far from overflow, and its inverse from the numbers of fewer digits.
_LARGE = 1e30


def homogeneous(weights):
    """Kernels and biases of K decoders as one matrix for each layer.

    Args:
      weights: of each decoder, [kernel [1, 1, C, 4C], bias [4C], ...] of its
        L layers.

    Returns:
      List over layers of float32 [K, C + 1, 4 * (C + 1)]; the last one
      [K, C + 1, 4C]. Channels are sorted by sub-pixel, then class.
    """
    by_layer = [tensor for tensors in zip(*weights) for tensor in tensors]
    count, num_layers = len(weights), len(weights[0]) // 2
    kernels, biases = (
        tf.stack([t for t in by_layer if t.shape.rank == rank])
        for rank in (4, 1)
    )
    classes = kernels.shape[3]
    kernels = tf.reshape(kernels, [-1, classes, classes, 4])
    biases = tf.reshape(biases, [-1, 1, classes, 4])
    matrix = tf.transpose(tf.concat([kernels, biases], 1), [0, 1, 3, 2])
    one = tf.one_hot([classes] * 4, classes + 1, axis=0)[..., tf.newaxis]
    ones = tf.broadcast_to(one, [num_layers * count, classes + 1, 4, 1])
    matrix = tf.concat([matrix, ones], -1)
    shape = [num_layers, count, classes + 1, 4, classes + 1]
    layers = tf.unstack(tf.reshape(matrix, shape))
    layers[-1] = layers[-1][..., :-1]
    return [tf.reshape(w, [*w.shape[:2], 4 * w.shape[3]]) for w in layers]


def weight_gradients(gradients):
    """Undoes `homogeneous`.

    Args:
      gradients: list over layers, shapes as `homogeneous` returns them.

    Returns:
      List over decoders of [kernel [1, 1, C, 4C], bias [4C], ...].
    """
    count, inputs, _ = gradients[0].shape
    classes = inputs - 1
    gradients = [tf.reshape(g, [count, inputs, 4, -1]) for g in gradients]
    matrix = tf.concat([g[..., :classes] for g in gradients], 0)
    matrix = tf.transpose(matrix, [0, 1, 3, 2])
    matrix = tf.reshape(matrix, [-1, 1, inputs, 4 * classes])
    kernels = tf.unstack(matrix[:, tf.newaxis, :, :classes])
    biases = tf.unstack(matrix[:, 0, classes])
    return [
        [
            tensor
            for layer in range(k, len(kernels), count)
            for tensor in (kernels[layer], biases[layer])
        ]
        for k in range(count)
    ]


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


def stream(weights, step, rows, target=None, *, parts):
    """Runs a step on all rows of every decoder.

    Args:
      weights: see `homogeneous`.
      step: (rows [n, F], their targets [n, 4^L * C] or None, weights of a
        decoder) -> (loss, gradient [n, C], list of gradients of weights, or
        [] without targets).
      rows: float32 [N, K, F].
      target: see `target_rows`, or None.
      parts: int32 scalar by which N can be divided. A part of the rows of a
        decoder has a core of its own.

    Returns:
      Sum of the losses, gradient [N, K, C], and the sums of the gradients of
      the weights.
    """
    total, count = tf.shape(rows)[0], rows.shape[1]
    rows = tf.reshape(rows, [parts, -1, *rows.shape[1:]])
    if target is not None:
        target = tf.reshape(target, [parts, -1, target.shape[1]])

    def one(number):
        decoder, part = number // parts, number % parts
        run = _by_blocks if cores.are_ours() else _at_once
        return run(
            step,
            rows[part, :, decoder],
            None if target is None else target[part],
            [weight[decoder] for weight in weights],
        )

    loss, gradient, *sums = cores.map_range(one, count * parts)
    gradient = tf.reshape(gradient, [count, total, gradient.shape[2]])
    sums = [tf.reshape(x, [count, -1, *x.shape[1:]]) for x in sums]
    return (
        tf.reduce_sum(loss),
        tf.transpose(gradient, [1, 0, 2]),
        [tf.reduce_sum(x, 1) for x in sums],
    )


def _at_once(step, rows, target, weights):
    loss, gradient, changes = step(rows, target, weights)
    return [loss, gradient, *changes]


def _by_blocks(step, rows, target, weights):
    classes = weights[0].shape[0] - 1
    most = max(1, _BLOCK // (classes * 4 ** len(weights)))
    size = tf.shape(rows)[0]
    count = (size + most - 1) // most

    def block(i, loss, gradients, *sums):
        # Even ones: a small rest costs as many operations.
        span = slice(i * size // count, (i + 1) * size // count)
        goal = None if target is None else target[span]
        new, gradient, changes = step(rows[span], goal, weights)
        sums = [before + more for before, more in zip(sums, changes)]
        return i + 1, loss + new, gradients.write(i, gradient), *sums

    gradients = tf.TensorArray(
        tf.float32, count, infer_shape=False, element_shape=[None, classes]
    )
    sums = [] if target is None else [tf.zeros_like(w) for w in weights]
    _, loss, gradients, *sums = tf.while_loop(
        lambda i, *_: i < count,
        block,
        (0, 0.0, gradients, *sums),
        parallel_iterations=1,
    )
    return [loss, gradients.concat(), *sums]


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
        columns = target.shape[1] // 4 ** len(weights)
        target = tf.reshape(target, [-1, columns])
        mask = target[:, classes:] if columns > classes else None
        loss, gradient = measure(logits, target[:, :classes], mask)
        return loss, *backward(inputs, logits, gradient, weights, relu)

    return step


def softmax(logits):
    """tf.nn.softmax in less time.

    What that subtracts, the largest logit of a row, is seldom needed: only if
    the exponentials of a row are too large or too small for float32.

    Args:
      logits: float32 [n, C].

    Returns:
      float32 [n, C].
    """
    if not cores.are_ours():
        # A GPU would have to be waited for.
        return tf.nn.softmax(logits)
    power = tf.exp(logits)
    total = tf.reduce_sum(power, 1, keepdims=True)
    inverse = 1.0 / total
    return tf.cond(
        tf.reduce_max(tf.maximum(total, inverse)) < _LARGE,
        lambda: power * inverse,
        lambda: tf.nn.softmax(logits),
    )


def _squared(logits, target, mask):
    prob = softmax(logits)
    difference = prob - target
    if mask is not None:
        difference *= mask
    loss = tf.nn.l2_loss(difference)
    # After the loss, the product needs no memory but the difference's.
    with tf.control_dependencies([loss]):
        product = prob * difference
    return loss, product - prob * tf.reduce_sum(product, 1, keepdims=True)


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
        prob = softmax(logits)
        inputs, logits = forward(clean + change, weights, relu)
        slope = softmax(logits) - prob
        return 0.0, *backward(inputs, logits, slope, weights, relu, False)

    return step
