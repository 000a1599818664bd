# SPDX-License-Identifier: Apache-2.0
"""Fits the tensors of a file to the variables of a model, by rules on names.

A family of names is a module beside this one, with

    RULES: list of (pattern, replacement). The pattern matches the whole name
      of a PyTorch module, that is the name of a tensor without its last word
      (weight, bias, ...). The replacement, as in `re.sub`, is the path of a
      layer in our model.
    DROPPED: list of patterns of modules that are expected and not wanted.

A path names the attributes from the model to a variable, with "/" between and
list items by index: "stages/0/1/reduce/convolution/kernel".
"""

import collections
import dataclasses
import re

import tensorflow as tf

from tfseg import id_lists

# The last word of a name in a file -> what a variable may be called here.
LEAVES = {
    # PyTorch.
    "weight": ("kernel", "gamma"),
    "bias": ("bias", "beta"),
    "running_mean": ("moving_mean",),
    "running_var": ("moving_variance",),
    # Keras.
    **{
        name: (name,)
        for name in ("kernel", "gamma", "beta", "moving_mean")
        + ("moving_variance",)
    },
}
# Of every BatchNorm of PyTorch; nothing here corresponds to it.
COUNTER = ".num_batches_tracked"


def prefixed(rules, source, target):
    """The same rules for a part of a larger model.

    Args:
      rules: list of (pattern, replacement).
      source: name of the part in the state dict, for example "encoder.base".
      target: path of the part in our model, for example "encoder".
    """
    return [
        (rf"{re.escape(source)}\.{pattern}", f"{target}/{replacement}")
        for pattern, replacement in rules
    ]


def paths(model):
    """{path: variable} of every weight of a model, in Keras' order.

    Of several paths to a variable it is the shortest.

    Args:
      model: keras.Model whose variables exist.

    Raises:
      ValueError: a variable is in no attribute.
    """
    view = tf.train.TrackableView(model)
    found, seen, queue = {}, set(), collections.deque([("", model)])
    while queue:
        path, item = queue.popleft()
        if id(item) in seen:
            continue
        seen.add(id(item))
        found[id(item)] = path
        for name, child in view.children(item).items():
            queue.append((f"{path}/{name}" if path else name, child))
    lost = [v.name for v in model.variables if id(v) not in found]
    if lost:
        raise ValueError(
            "Variables must be in layers that are attributes. Lost: "
            f"{id_lists.shorten(lost)}."
        )
    return {found[id(variable)]: variable for variable in model.variables}


@dataclasses.dataclass(frozen=True)
class Match:
    """A tensor that fits: its name and shape in the file, and where it goes.

    Attributes:
      name: in the file.
      shape: in the file.
      path: in the model.
      value: array in the layout of the variable.
    """

    name: str
    shape: tuple
    path: str
    value: object


@dataclasses.dataclass
class Fit:
    """What fits between a file and a model, and what does not.

    Attributes:
      variables: {path: variable} of the model.
      matched: list of Match.
      misshaped: list of text; the variable is there, of another shape.
      unmatched: names in the file that lead nowhere.
      missing: paths that no name leads to.
      dropped: names in the file that are expected and not wanted.
    """

    variables: dict
    matched: list = dataclasses.field(default_factory=list)
    misshaped: list = dataclasses.field(default_factory=list)
    unmatched: list = dataclasses.field(default_factory=list)
    missing: list = dataclasses.field(default_factory=list)
    dropped: list = dataclasses.field(default_factory=list)

    def problems(self):
        """Text, a line for each kind of problem; "" if all fits."""
        kinds = {
            "of another shape": self.misshaped,
            "in the file, but not in the model": self.unmatched,
            "in the model, but not in the file": self.missing,
        }
        return "\n".join(
            f"{len(names)} {kind}: {id_lists.shorten(names)}"
            for kind, names in kinds.items()
            if names
        )

    def assign(self):
        """Gives every matched variable its value."""
        for match in self.matched:
            variable = self.variables[match.path]
            variable.assign(match.value.astype(variable.dtype.as_numpy_dtype))

    def table(self):
        """Text for people: name in the file | shape there | path here."""
        rows = [
            (match.name, list(match.shape), match.path)
            for match in self.matched
        ]
        rows.insert(0, ("name in the file", "shape there", "path here"))
        widths = [max(len(str(row[i])) for row in rows) for i in (0, 1)]
        lines = [
            f"{name:{widths[0]}}  {str(shape):{widths[1]}}  {path}"
            for name, shape, path in rows
        ]
        lines.append(
            f"{len(self.matched)} of {len(self.variables)} variables matched"
        )
        for kind, names in {
            "of another shape": self.misshaped,
            "in the file, but not in the model": self.unmatched,
            "in the model, but not in the file": self.missing,
        }.items():
            lines += [f"{kind}: {name}" for name in names]
        if self.dropped:
            lines.append(
                f"{len(self.dropped)} in the file, but not wanted: "
                f"{id_lists.shorten(self.dropped)}"
            )
        return "\n".join(lines)


def fit(tensors, variables, targets, dropped=()):
    """Fits tensors with names of layers in PyTorch or Keras to variables.

    Where a name has several targets, the first counts whose variable exists,
    is still free and has the shape. PyTorch's kernels change from OIHW to
    HWIO, or from [out, in] to [in, out].

    Args:
      tensors: {name: array}.
      variables: {path: variable}, see `paths`.
      targets: function of the name of a layer in the file, that is without
        the last word, to paths of layers; see `by_rules`.
      dropped: list of patterns.

    Returns:
      Fit.
    """

    def choices(name):
        layer, _, leaf = name.rpartition(".")
        return [
            f"{target}/{word}"
            for target in targets(layer)
            for word in LEAVES.get(leaf, ())
        ]

    def is_dropped(name):
        layer = name.rpartition(".")[0]
        return any(re.fullmatch(pattern, layer) for pattern in dropped)

    return _fit(tensors, variables, choices, is_dropped, _layout)


def by_rules(rules):
    """Function of the name of a layer to the paths to which rules lead.

    Args:
      rules: list of (pattern, replacement).
    """
    compiled = [(re.compile(pattern), path) for pattern, path in rules]

    def targets(layer):
        matches = [(pattern.fullmatch(layer), p) for pattern, p in compiled]
        return [match.expand(path) for match, path in matches if match]

    return targets


def fit_paths(tensors, variables):
    """Fits tensors that already have our paths and layout.

    Args:
      tensors: {path: array}.
      variables: {path: variable}, see `paths`.

    Returns:
      Fit.
    """
    return _fit(
        tensors,
        variables,
        choices=lambda name: [name],
        is_dropped=lambda name: False,
        layout=lambda name, tensor: tensor,
    )


def _fit(tensors, variables, choices, is_dropped, layout):
    result = Fit(variables)
    free = dict(variables)
    for name, tensor in tensors.items():
        if name.endswith(COUNTER):
            continue
        value = layout(name, tensor)
        there = [path for path in choices(name) if path in free]
        good = [path for path in there if _agrees(value, variables[path])]
        if good:
            del free[good[0]]
            match = Match(name, tensor.shape, good[0], value)
            result.matched.append(match)
        elif there:
            wanted = variables[there[0]].shape.as_list()
            result.misshaped.append(
                f"{name} ({value.dtype} {list(value.shape)} for {there[0]}, "
                f"{wanted})"
            )
        elif is_dropped(name):
            result.dropped.append(name)
        else:
            result.unmatched.append(name)
    result.missing = list(free)
    return result


def _layout(name, tensor):
    """With the axes in the order of Keras."""
    if not name.endswith(".weight"):
        return tensor
    # OIHW -> HWIO, [out, in] -> [in, out]; a vector stays.
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def _agrees(value, variable):
    is_floating = tf.as_dtype(value.dtype).is_floating
    return is_floating and value.shape == tuple(variable.shape)
