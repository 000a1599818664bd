# SPDX-License-Identifier: Apache-2.0
"""Objects of a prediction: the boxes of its connected components.

Components are found inside of the graph, on any device. Pixels of a 2 x 2
block touch each other, so that blocks stand for pixels, at full resolution and
without an error. Each iteration gives every block the smallest number among
its neighbors', hands it to the block that its own number names, and follows
the numbers twice. Ten iterations suffice even for a spiral over the image.

Source: Shiloach and Vishkin 1982, in the form of Zhang et al., FastSV, 2020
(arXiv 1910.05971). Official CCT takes OpenCV's contours on the host.
"""

import math

import tensorflow as tf

from tfseg.ops import shapes

# Block numbers are float32: GPUs have no kernels for the minimum of int32,
# TensorFlow would compute it on the host.
_MOST_BLOCKS = 2**24


def foreground(prediction):
    """Which pixels belong to an object: any class but 0.

    Args:
      prediction: logits, float [B, H, W, C], or classes, int [B, H, W]. In
        logits a tie goes to class 0, as with argmax.

    Returns:
      bool [B, H, W].

    Raises:
      ValueError: if the rank is wrong.
    """
    shapes.check_rank("prediction", prediction, (3, 4))
    if len(prediction.shape) == 3:
        return tf.cast(prediction, tf.bool)
    # Reads the logits once; argmax takes twice as long.
    return tf.reduce_max(prediction, -1) > prediction[..., 0]


def object_boxes(
    prediction, *, max_objects, min_perimeter=0, outermost=False, stride=1
):
    """Bounding boxes of the objects that an image's prediction shows.

    An object is an 8-connected component of the pixels of any class but 0.

    Args:
      prediction: logits, float [B, H, W, C], or classes, int [B, H, W].
      max_objects: n; of more objects those with the largest perimeters of
        their boxes are taken, of equal ones the first ones.
      min_perimeter: of a box, 2 * (height + width), pixels; of the objects
        taken those below it are left out.
      outermost: of the objects taken those are left out whose box lies inside
        of another's.
      stride: every stride-th row and column is looked at, from the first.
        2 takes a quarter of the time; thinner objects may fall apart or be
        missed.

    Returns:
      int32 [B, n, 4]: top, left, bottom, right, pixels, the latter two just
      outside; largest perimeter first. Zeros, an empty box, in place of an
      object that is left out, or that an image does not have.

    Raises:
      ValueError: if a rank or a number is wrong, or the batch is too large.

    Source: official decoders.py:161-201, contours at full resolution. Differs:
    that keeps contours of more than 50 points after dropping those within
    straight lines, which a rectangle never has; `min_perimeter` 50 is the
    nearest to it that does not depend on the shape. It ignores objects in
    holes of others; `outermost` does so too, and ignores those in bays, if
    their box is inside.
    """
    _check_numbers(max_objects, min_perimeter, stride)
    sampled = foreground(_every(stride, prediction))
    quarters, grid = _blocks(sampled)
    boxes = _root_boxes(quarters, _roots(quarters, grid), grid)
    # Strided rows and columns stand for those that follow, up to the border.
    extent = tf.cast(tf.shape(prediction)[1:3], tf.float32)
    boxes = tf.minimum(boxes * stride, tf.tile(extent, [2]))
    boxes = _largest(boxes, max_objects)
    kept = _perimeter(boxes) >= min_perimeter
    if outermost:
        kept &= ~_inside_another(boxes)
    boxes = tf.where(kept[..., tf.newaxis], boxes, 0.0)
    return tf.ensure_shape(
        tf.cast(boxes, tf.int32), [prediction.shape[0], max_objects, 4]
    )


def _check_numbers(max_objects, min_perimeter, stride):
    if max_objects < 1 or stride < 1 or min_perimeter < 0:
        raise ValueError(
            "`max_objects` and `stride` must be at least 1, `min_perimeter` at "
            f"least 0. Received: max_objects={max_objects}, stride={stride}, "
            f"min_perimeter={min_perimeter}."
        )


def _every(stride, prediction):
    return prediction if stride == 1 else prediction[:, ::stride, ::stride]


def _blocks(inside):
    """The pixels of 2 x 2 blocks: bool [4, N]; and (B, h, w), N = B * h * w.

    The last row and column of blocks is empty, so that blocks that are
    neighbors in the flat order, but not in the image, never touch.
    """
    batch, height, width = _shape(inside)
    h, w = (height + 1) // 2 + 1, (width + 1) // 2 + 1
    inside = tf.pad(inside, [[0, 0], [0, 2 * h - height], [0, 2 * w - width]])
    blocks = tf.reshape(inside, [batch, h, 2, w, 2])
    quarters = tf.transpose(blocks, [2, 4, 0, 1, 3])
    return tf.reshape(quarters, [4, batch * h * w]), (batch, h, w)


def _shape(tensor):
    """Static where it is known, else int32 scalars."""
    dynamic = tf.unstack(tf.shape(tensor))
    return [
        known if known is not None else size
        for known, size in zip(tensor.shape, dynamic)
    ]


def _roots(quarters, grid):
    """float32 [N]: the first block of each block's component, or itself."""
    num_blocks = grid[0] * grid[1] * grid[2]
    if isinstance(num_blocks, int) and num_blocks > _MOST_BLOCKS:
        raise ValueError(
            f"`prediction` has more than {_MOST_BLOCKS} blocks of 2 x 2 "
            f"pixels; take a smaller batch or a larger `stride`. Received: "
            f"(batch, rows, columns) = {grid} of blocks."
        )
    barriers = _barriers(quarters, grid[2])

    def step(label, _):
        smallest = label
        padded = _pad(label, grid[2], math.inf)
        for offset, barrier in barriers:
            neighbor = _shifted(padded, offset, grid[2], num_blocks)
            smallest = tf.minimum(smallest, tf.maximum(neighbor, barrier))
        named = tf.cast(label, tf.int32)
        handed = tf.math.unsorted_segment_min(smallest, named, num_blocks)
        following = tf.minimum(handed, smallest)
        for _ in range(2):
            following = tf.gather(following, tf.cast(following, tf.int32))
        return following, tf.reduce_max(label - following) > 0

    label, _ = tf.while_loop(
        lambda label, changed: changed,
        step,
        (_numbers(num_blocks), tf.constant(True)),
    )
    return label


def _numbers(count):
    return tf.range(tf.cast(count, tf.float32))


def _barriers(quarters, w):
    """8 pairs of a neighbor's offset and float32 [N]: 0 if it touches."""
    top_left, top_right, bottom_left, bottom_right = tf.unstack(quarters)
    count = tf.size(top_left)

    def at(offset, values):
        return _shifted(_pad(values, w, False), offset, w, count)

    pairs = [
        (1, (top_right | bottom_right) & at(1, top_left | bottom_left)),
        (w, (bottom_left | bottom_right) & at(w, top_left | top_right)),
        (w + 1, bottom_right & at(w + 1, top_left)),
        (w - 1, bottom_left & at(w - 1, top_right)),
    ]
    pairs += [(-offset, at(-offset, touch)) for offset, touch in pairs]
    return [(offset, tf.where(touch, 0.0, math.inf)) for offset, touch in pairs]


def _pad(values, w, constant):
    return tf.pad(values, [[w + 1, w + 1]], constant_values=constant)


def _shifted(padded, offset, w, count):
    """[N]: of each block the value that stands `offset` blocks after it."""
    start = w + 1 + offset
    return padded[start : start + count]


def _root_boxes(quarters, root, grid):
    """float32 [B, h * w, 4], pixels: of a component at its root; else 0."""
    batch, h, w = grid
    shape = [batch, h, w]
    top_left, top_right, bottom_left, bottom_right = tf.unstack(quarters)
    rows = _numbers(h)[:, tf.newaxis] * 2
    columns = _numbers(w) * 2

    def nearer(first, start):
        """First pixel of a block that belongs to the object, or none."""
        first = tf.reshape(tf.where(first, 0.0, 1.0), shape)
        return tf.reshape(first + start, [-1])

    def farther(last, start):
        last = tf.reshape(tf.where(last, 2.0, 1.0), shape)
        return tf.reshape(last + start, [-1])

    # Of ends the minimum of their negatives, so that one pass serves all.
    sides = [
        nearer(top_left | top_right, rows),
        nearer(top_left | bottom_left, columns),
        -farther(bottom_left | bottom_right, rows),
        -farther(top_right | bottom_right, columns),
    ]
    boxes = tf.math.unsorted_segment_min(
        tf.stack(sides, -1), tf.cast(root, tf.int32), tf.size(root)
    )
    own = tf.reduce_any(quarters, 0) & (root == _numbers(tf.size(root)))
    boxes = tf.where(own[:, tf.newaxis], boxes * [1.0, 1.0, -1.0, -1.0], 0.0)
    return tf.reshape(boxes, [batch, h * w, 4])


def _perimeter(boxes):
    return 2 * tf.reduce_sum(boxes[..., 2:] - boxes[..., :2], -1)


def _largest(boxes, count):
    """[B, count, 4]: the first of the largest, after them empty boxes."""
    boxes = tf.pad(boxes, [[0, 0], [0, count], [0, 0]])
    chosen = tf.math.top_k(_perimeter(boxes), count).indices
    return tf.gather(boxes, chosen, batch_dims=1)


def _inside_another(boxes):
    """bool [B, n]: a hole leaves a pixel on each side of what is in it."""
    inner, outer = boxes[:, :, tf.newaxis], boxes[:, tf.newaxis]
    within = tf.concat(
        [inner[..., :2] > outer[..., :2], inner[..., 2:] < outer[..., 2:]], -1
    )
    return tf.reduce_any(tf.reduce_all(within, -1), -1)
