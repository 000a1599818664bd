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


def in_rows(pixels, num_layers):
    """What is given of each pixel, in the order of the rows of logits.

    Args:
      pixels: [B, h * 2^L, w * 2^L, F].
      num_layers: L.

    Returns:
      float32 [B * h * w, 4^L * F], those of each row of the first layer.
    """
    batch, height, width, depth = tf.unstack(tf.shape(pixels))
    side = 2**num_layers
    place = tf.range(batch * height * width)
    twos = [2] * num_layers
    shape = [batch * height // side, *twos, width // side, *twos]
    pairs = [(1 + i, num_layers + 2 + i) for i in range(num_layers)]
    axes = [0, num_layers + 1, *(axis for pair in pairs for axis in pair)]
    place = tf.reshape(tf.transpose(tf.reshape(place, shape), axes), [-1])
    flat = tf.reshape(tf.cast(pixels, tf.float32), [-1, depth])
    width = side * side * pixels.shape[-1]
    return tf.stop_gradient(tf.reshape(tf.gather(flat, place), [-1, width]))


def stream(weights, step, rows, given=(), *, parts, kept=None):
    """Runs a step on all rows of every decoder.

    Args:
      weights: see `homogeneous`.
      step: (rows [n, F], list of what is given of them, weights of a decoder)
        -> (loss, gradient [n, C], list of gradients of weights, or [] if
        nothing is given).
      rows: float32 [N, K, F].
      given: tensors [N, .], the same for every decoder; see `in_rows`.
      parts: int32 scalar by which N can be divided. A part of the rows of a
        decoder has a core of its own.
      kept: bool [N, K], only where `cores.are_ours`: the other rows are left
        out, their gradient is 0. None: all.

    Returns:
      Sum of the losses, gradient [N, K, C], and the sums of the gradients of
      the weights.
    """
    total, count = tf.shape(rows)[0], rows.shape[1]
    rows, *given = (
        tf.reshape(x, [parts, -1, *x.shape[1:]]) for x in (rows, *given)
    )
    if kept is not None:
        kept = tf.reshape(kept, [parts, -1, count])

    def one(number):
        decoder, part = number // parts, number % parts
        arguments = (
            rows[part, :, decoder],
            [x[part] for x in given],
            [weight[decoder] for weight in weights],
        )
        if kept is not None:
            return _of_kept(step, *arguments, kept[part, :, decoder])
        run = _by_blocks if cores.are_ours() else _at_once
        return run(step, *arguments)

    loss, gradient, *sums = cores.map_range(one, count * parts)
    gradient = tf.reshape(gradient, [count, total, gradient.shape[2]])
    sums = [tf.reshape(x, [count, -1, *x.shape[1:]]) for x in sums]
    return (
        tf.reduce_sum(loss),
        tf.transpose(gradient, [1, 0, 2]),
        [tf.reduce_sum(x, 1) for x in sums],
    )


def _at_once(step, rows, given, weights):
    loss, gradient, changes = step(rows, given, weights)
    return [loss, gradient, *changes]


def _of_kept(step, rows, given, weights, kept):
    places = tf.where(kept)

    def step_at(rows, places, weights):
        mine = [tf.gather_nd(x, places[0]) for x in given]
        return step(rows, mine, weights)

    loss, gradient, *changes = _by_blocks(
        step_at, tf.gather_nd(rows, places), [places], weights
    )
    gradient = tf.scatter_nd(places, gradient, tf.shape(rows, tf.int64))
    return [loss, gradient, *changes]


def _by_blocks(step, rows, given, weights):
    classes = weights[0].shape[0] - 1
    most = max(1, _BLOCK // (classes * 4 ** len(weights)))
    size = tf.shape(rows)[0]
    count = (size + most - 1) // most

    def block(i, loss, gradients, *sums):
        # Even ones: a small rest costs as many operations.
        span = slice(i * size // count, (i + 1) * size // count)
        mine = [x[span] for x in given]
        new, gradient, changes = step(rows[span], mine, weights)
        sums = [before + more for before, more in zip(sums, changes)]
        return i + 1, loss + new, gradients.write(i, gradient), *sums

    gradients = tf.TensorArray(
        tf.float32, count, infer_shape=False, element_shape=[None, classes]
    )
    sums = [tf.zeros_like(w) for w in weights] if given else []
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
    """The step, for `stream`, of a distance to a target.

    It is given target [n, 4^L * C] and, if there is one, mask [n, 4^L] in
    {0, 1}, of which pixels count.

    Args:
      relu: see `forward`.
      distance: (logits [n, C], target [n, C]) -> [n]; None: half the squared
        difference of the probabilities, summed over the classes. The target
        must be 0 then where the mask is.
    """
    measure = _squared if distance is None else _by_tape(distance)

    def step(rows, given, weights):
        inputs, logits = forward(rows, weights, relu)
        target, mask = (*given, None)[:2]
        target = tf.reshape(target, [-1, logits.shape[1]])
        mask = None if mask is None else tf.reshape(mask, [-1, 1])
        loss, gradient = measure(logits, target, mask)
        return loss, *backward(inputs, logits, gradient, weights, relu)

    return step


def learn_zeros(weights, relu, given, zeros):
    """Of rows of zeros, which all have the same logits, what `learn` does.

    The sum over rows of half the squared distance of their common prediction
    p to targets t is a polynomial of p; their sums of t, t^2 and of the mask
    are its coefficients. Both are taken from the mean of t: where all agree,
    rounding would be all that is left.

    Args:
      weights: see `homogeneous`.
      relu: see `forward`.
      given: target, or target and mask, as `learn` takes them.
      zeros: bool [N, K].

    Returns:
      The loss, and list of the gradients of the weights.
    """
    zeros = tf.transpose(tf.cast(zeros, tf.float32))
    target, mask = (*given, tf.ones_like(given[0][:, :1]))[:2]
    counts = (zeros @ mask)[..., tf.newaxis]
    mean, offset = _centered(target, mask, 4 ** len(weights))
    squares = zeros @ tf.reduce_sum(tf.square(offset), 1, keepdims=True)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(weights)
        last = weights[0].shape[1] - 1
        rows = tf.one_hot([[last]] * weights[0].shape[0], last + 1)
        for weight in weights:
            rows = tf.nn.relu(rows @ weight) if relu else rows @ weight
            shape = [weight.shape[0], -1, weight.shape[2] // 4]
            rows = tf.reshape(rows, shape)
        change = tf.nn.softmax(rows) - mean
        sums = tf.reshape(zeros @ offset, tf.shape(change))
        loss = tf.reduce_sum(change * (0.5 * counts * change - sums))
        loss += 0.5 * tf.reduce_sum(squares)
    return loss, tape.gradient(loss, weights)


def _centered(target, mask, places):
    """Mean [places, C] over the rows, and what [N, F] is besides it."""
    shape = tf.shape(target)
    target = tf.reshape(target, [shape[0], places, -1])
    total = tf.reduce_sum(mask, 0)[:, tf.newaxis]
    mean = tf.math.divide_no_nan(tf.reduce_sum(target, 0), total)
    offset = target - mask[..., tf.newaxis] * mean
    return mean, tf.reshape(offset, shape)


def softmax(logits, mask=None):
    """tf.nn.softmax in less time.

    What that subtracts, the largest logit of a row, is seldom needed: only if
    the exponentials of a row are too large or too small for float32.

    Args:
      logits: float32 [n, C].
      mask: float32 [n, 1], a factor. None: 1.

    Returns:
      float32 [n, C].
    """

    def safe():
        prob = tf.nn.softmax(logits)
        return prob if mask is None else mask * prob

    if not cores.are_ours():
        # A GPU would have to be waited for.
        return safe()
    power = tf.exp(logits)
    total = tf.reduce_sum(power, 1, keepdims=True)
    inverse = 1.0 / total
    factor = inverse if mask is None else mask * inverse
    return tf.cond(
        tf.reduce_max(tf.maximum(total, inverse)) < _LARGE,
        lambda: power * factor,
        safe,
    )


def _squared(logits, target, mask):
    # Both 0 where the mask is: so are difference and gradient.
    prob = softmax(logits, mask)
    difference = prob - target
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

    def step(rows, given, weights):
        del given
        clean, change = tf.split(rows, 2, 1)
        _, logits = forward(clean, weights, relu)
        prob = softmax(logits)
        inputs, logits = forward(clean + change, weights, relu)
        slope = softmax(logits) - prob
        return 0.0, *backward(inputs, logits, slope, weights, relu, False)

    return step
