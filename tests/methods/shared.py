# SPDX-License-Identifier: Apache-2.0
"""One built method for several tests."""


class Shared:
    """A method that every test begins anew.

    Building and tracing it takes longer than all its steps.

    Attributes:
      name: of the method.
      traces: list with an item for each trace, and for each eager step.
    """

    def __init__(self, name, method):
        self.name = name
        self.traces = []
        self._method = method
        self._start = self.values()
        original = method.train_step

        def counted(batch):
            self.traces.append(1)
            return original(batch)

        method.train_step = counted

    def _variables(self):
        method = self._method
        return [*method.variables, *method.optimizer.variables]

    def values(self):
        """Of all variables, those of the optimizer too."""
        return [variable.numpy() for variable in self._variables()]

    def begin(self):
        """The method, with all variables as they were built."""
        for variable, value in zip(self._variables(), self._start):
            variable.assign(value)
        self._method.reset_metrics()
        return self._method
