# SPDX-License-Identifier: Apache-2.0
"""Two crops of one image, `teacher` and `student`, and the way between them.

Source: French et al., BMVC 2020 (arXiv 1906.01916), supplement D.1.1; official
datapipe/seg_transforms_cv.py:*.transform_pair, seg_data.py:SegCollate.
Differs: the teacher's crop is by default the paper's, unchanged (official: not
scaled, but flipped); a turned crop is moved by pixels of the image, not of the
crop; and what data/geometry.py lists.
"""

import tensorflow as tf

from tfseg.data import geometry


def view(image, label, seed, augmentation):
    """Two crops near each other; the student's also with changed colors.

    Args:
      image: uint8 [H, W, 3].
      label: None; this view is for unlabeled images.
      seed: int32 [2].
      augmentation: data.augmentation.Augmentation; `pair_offset` and
        `pair_teacher` are of this view.

    Returns:
      dict: teacher and student float32 [h, w, 3] in [0, 255]; teacher_valid
      and student_valid bool [h, w], False on padding; matrix float32 [3, 3],
      pixel indices (x, y, 1) of the student's crop to those of the teacher's.
    """
    del label
    seeds = tf.unstack(tf.random.split(seed, 2), num=2)
    windows = _windows(tf.shape(image)[:2], seeds[0], augmentation)
    teacher, teacher_valid = augmentation.warp_image(image, windows[0])
    student, student_valid = augmentation.warp_image(image, windows[1])
    return {
        "teacher": teacher,
        "student": augmentation.strong(student, student_valid, seeds[1]),
        "teacher_valid": teacher_valid,
        "student_valid": student_valid,
        "matrix": geometry.between(windows[1], windows[0]),
    }


def _windows(image_size, seed, augmentation):
    """float32 [3, 3] twice: the teacher's and the student's window."""
    seeds = tf.unstack(tf.random.split(seed, 3), num=3)
    student = _pose(seeds[1], augmentation)
    teacher = _teacher_pose(student, seeds[2], augmentation)
    sizes = [
        tf.constant(augmentation.crop, tf.float32) / factor
        for factor, _ in (teacher, student)
    ]
    corners = _corners(image_size, sizes, seeds[0], augmentation.pair_offset)
    return [
        geometry.turned_window(*corner, factor, turn, crop=augmentation.crop)
        for corner, (factor, turn) in zip(corners, (teacher, student))
    ]


def _pose(seed, augmentation):
    """Random scale factor and geometry.Turn."""
    draw = tf.random.stateless_uniform([2], seed)
    turn = geometry.random_turn(
        draw[1] < augmentation.flip_rate,
        seed,
        augmentation.rotation,
        augmentation.vertical_flip_rate,
        augmentation.transpose_rate,
    )
    return geometry.scale_factor(draw[0], augmentation.scale), turn


def _teacher_pose(student, seed, augmentation):
    factor, turn = _pose(seed, augmentation)
    return {
        "unchanged": (1.0, geometry.Turn(0.0, False, False, False)),
        "shared": (student[0], turn._replace(angle=student[1].angle)),
        "free": (factor, turn),
    }[augmentation.pair_teacher]


def _corners(image_size, sizes, seed, offset):
    """(top, left) of the teacher's and the student's window."""
    draw = tf.random.stateless_uniform([4], seed)
    rooms = [tf.cast(image_size, tf.float32) - size for size in sizes]
    first = tf.round(draw[:2] * rooms[0])
    moved = tf.round(offset * (2 * draw[2:] - 1))
    second = first + (sizes[0] - sizes[1]) / 2 + moved
    # As in `geometry.random_window`: in the image, or holding all of it.
    second = tf.clip_by_value(
        second, tf.minimum(rooms[1], 0), tf.maximum(rooms[1], 0)
    )
    return tf.unstack(first), tf.unstack(second)
