# SPDX-License-Identifier: Apache-2.0
"""What the mean teacher methods share: a teacher that averages the student.

The teacher's BatchNorm: `teacher_training=True` normalizes by the statistics
of its batch, as the official code does unless BatchNorm is frozen.
`teacher_statistics` says what the callback does with the moving statistics,
which evaluation uses: "averaged" like the weights (official), "copied" from
the student, or "own" (only the teacher's own training-mode passes move them).
"""

from tfseg.callbacks import moving_average
from tfseg.methods.families import checks, consistency


class MeanTeacher(consistency.Consistency):
    """Base of the methods; a subclass writes `train_step`.

    Args:
      build_network: () -> network; called twice.
      decay: of the teacher, in [0, 1].
      decay_ramp: see `callbacks.moving_average`.
      teacher_statistics: "averaged", "copied" or "own", see the module.
      **shared: those of `families.consistency`.
    """

    NETWORKS = ("teacher", "student")

    def __init__(
        self, build_network, *, decay, decay_ramp, teacher_statistics, **shared
    ):
        super().__init__(build_network, **shared)
        checks.rate("decay", decay)
        checks.choice(
            "teacher_statistics", teacher_statistics, moving_average.STATISTICS
        )
        self.teacher = build_network()
        moving_average.copy(self.student, self.teacher)
        self.decay, self.decay_ramp = decay, decay_ramp
        self.teacher_statistics = teacher_statistics

    def step_callbacks(self):
        return [
            *super().step_callbacks(),
            moving_average.MovingAverage(
                self.student,
                self.teacher,
                decay=self.decay,
                decay_ramp=self.decay_ramp,
                statistics=self.teacher_statistics,
            ),
        ]
