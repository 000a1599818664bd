# SPDX-License-Identifier: Apache-2.0
"""The configuration of a run: common fields, units, defaults and checks.

A file in `configs/` calls `base_config()`, names a data set, a network and a
method with all of their options, and returns the result. No TensorFlow here,
so that a wrong flag is answered at once.
"""

import copy
import math

from ml_collections import config_dict

from tfseg import split_options

# section -> field -> (test, what is allowed); checked by `validate`.
_POSITIVE = (
    lambda value: 0 < value < math.inf,
    "must be positive and finite",
)
_NOT_NEGATIVE = (
    lambda value: 0 <= value < math.inf,
    "must be 0 or more, and finite",
)
_SEED = (lambda value: 0 <= value < 2**31, "must be in [0, 2^31)")
_RATE = (lambda value: 0 <= value <= 1, "must be in [0, 1]")


def _one_of(*choices):
    return (lambda value: value in choices, f"must be one of {choices}")


def _numbers(count, kind, low, high):
    def test(value):
        return len(value) == count and all(
            isinstance(x, kind) and low <= x <= high for x in value
        )

    name = "whole numbers" if kind is int else "numbers"
    return (test, f"must be {count} {name} in [{low}, {high}]")


def _range(low, high):
    two, _ = _numbers(2, (int, float), low, high)
    return (
        lambda value: two(value) and value[0] <= value[1],
        f"must be two increasing numbers in [{low}, {high}]",
    )


_RULES = {
    "seed": _SEED,
    "split.seed": _SEED,
    "split.num_labeled": _NOT_NEGATIVE,
    "split.labeled_fraction": _RATE,
    "split.num_validation": _NOT_NEGATIVE,
    "split.validation_fraction": _RATE,
    "split.validation_seed": _SEED,
    "data.crop": _numbers(2, int, 1, 100_000),
    "data.scale": _range(1e-3, 1e3),
    "data.flip_rate": _RATE,
    "data.vertical_flip_rate": _RATE,
    "data.transpose_rate": _RATE,
    "data.rotation": (
        lambda value: 0 <= value <= 180,
        "must be in [0, 180], degrees",
    ),
    "data.pair_offset": _NOT_NEGATIVE,
    "data.pair_teacher": _one_of("unchanged", "shared", "free"),
    "data.overlap_range": _range(0, 1),
    "data.overlap_stride": (
        lambda value: isinstance(value, int) and value > 0,
        "must be a positive whole number, pixels",
    ),
    "data.jitter": _numbers(4, (int, float), 0, 1),
    "data.pad_color": _numbers(3, (int, float), 0, 255),
    "data.jitter_rate": _RATE,
    "data.gray_rate": _RATE,
    "data.blur_rate": _RATE,
    "data.blur_sigma": _range(0, 100),
    "data.max_pixels": _POSITIVE,
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.pretrained_multiplier": _NOT_NEGATIVE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.momentum": _RATE,
    "train.steps": _POSITIVE,
    "train.labeled_batch": _POSITIVE,
    "train.unlabeled_batch": _NOT_NEGATIVE,
    "train.report_every": _POSITIVE,
    "train.evaluate_every": _POSITIVE,
    "train.checkpoint_every": _POSITIVE,
    "train.num_pictures": _NOT_NEGATIVE,
    "evaluate.batch": _POSITIVE,
    "evaluate.absent": _one_of("nan", "zero"),
    "runtime.strategy": _one_of("mirrored", "multi_worker"),
    "runtime.replicas": _NOT_NEGATIVE,
    "runtime.precision": _one_of(
        "auto", "float32", "mixed_float16", "mixed_bfloat16"
    ),
}


def base_config():
    """The fields that every run has, with their defaults."""
    return config_dict.ConfigDict(
        {
            # Seeds weights, order of the examples, augmentation and masks.
            "seed": 0,
            "dataset": {"name": "folder", "dir": ""},
            # Details: tfseg/split_options.py.
            "split": {
                # Of stratified and random orders, and of what is held out.
                "seed": 0,
                # How many labeled images to use. A number; 0 = all of them,
                "num_labeled": 0,
                # or their share, (0, 1],
                "labeled_fraction": 1.0,
                # or every n-th of them, in a listed or sorted order.
                "labeled_step": 1,
                # What they are the beginning of: stratified, random, listed
                # or sorted.
                "labeled_order": "stratified",
                # Labeled images of the train list to validate on; the data
                # set's validation images become its test images. 0 = the
                # validation list.
                "num_validation": 0,
                # Share of the labeled images held out where there is none.
                "validation_fraction": 0.2,
                # Of the shuffle whose last images num_validation takes.
                "validation_seed": 131,
                # Text files, an id or a path a line, as published; "" = the
                # data set's own list, or computed from the seed.
                # labeled_file may be a pickle of indices.
                "train_file": "",
                "labeled_file": "",
                "unlabeled_file": "",
                "validation_file": "",
                "test_file": "",
                # train: the rest of the train list; extra: images without
                # mask or on no list; all: both; "": the data set's own list,
                # or train.
                "unlabeled_pool": "",
                "unlabeled_includes_labeled": True,
            },
            "data": {
                # Folder of launch.prepare --records, to read the examples
                # from instead of the data set's files; "" = the files.
                "records": "",
                # Folder of launch.pseudo_labels: labels of the unlabeled
                # images, for methods with a `weak_weight`; "" = none.
                "pseudo_labels": "",
                # (height, width) of a training crop, pixels.
                "crop": (320, 320),
                # Range of the random scale, log-uniform; 1 = as stored.
                "scale": (0.5, 2.0),
                # Probability of a mirror image, left to right;
                "flip_rate": 0.5,
                # top to bottom;
                "vertical_flip_rate": 0.0,
                # of x and y swapped (square crops only).
                "transpose_rate": 0.0,
                # Degrees; the angle is uniform in +-rotation.
                "rotation": 0.0,
                # View affine_pair: the student's crop is moved by up to so
                # many pixels of the image from the teacher's,
                "pair_offset": 16,
                # whose crop is not scaled, turned or flipped (unchanged), has
                # the student's scale and rotation (shared), or its own (free).
                "pair_teacher": "unchanged",
                # View overlap_pair: range of the crops' intersection over
                # union; their distance is a multiple of so many pixels.
                "overlap_range": (0.1, 1.0),
                "overlap_stride": 8,
                # Photometric augmentation of the strong view. Brightness,
                # contrast and saturation: factor in 1 +- x; hue: +- turns.
                "jitter": (0.4, 0.4, 0.4, 0.1),
                "jitter_rate": 0.0,
                "gray_rate": 0.0,
                "blur_rate": 0.0,
                # Standard deviation of the blur, pixels.
                "blur_sigma": (0.1, 2.0),
                # RGB of padding: the ImageNet mean, so about 0 to a network.
                "pad_color": (124, 116, 104),
                # Images larger than this many pixels are refused.
                "max_pixels": 100_000_000,
            },
            # Of methods that learn from several data sets: name -> dataset and
            # split of a further one, as above.
            "domains": {},
            "network": {"name": "fcn"},
            # Of methods with two networks; empty = the second is as the
            # first.
            "second_network": {},
            "method": {"name": "supervised"},
            "optimizer": {
                "name": "adam",
                "learning_rate": 1e-3,
                "schedule": "poly",
                "power": 0.9,
                "warmup_steps": 0,
                # Learning rate of pre-trained variables over that of others.
                "pretrained_multiplier": 1.0,
                # SGD only.
                "momentum": 0.9,
                "nesterov": False,
                "weight_decay": 0.0,
                # True: added to the gradient (L2); False: decoupled.
                "coupled_weight_decay": True,
                "decay_norm_and_bias": False,
            },
            "train": {
                "steps": 3000,
                # Images a step over all replicas and workers.
                "labeled_batch": 8,
                "unlabeled_batch": 16,
                # All in steps.
                "report_every": 100,
                "evaluate_every": 1000,
                "checkpoint_every": 1000,
                # Validation images shown in TensorBoard.
                "num_pictures": 4,
            },
            "evaluate": {
                "batch": 16,
                # Side of the sliding window, pixels; 0 = the whole image.
                "window": 0,
                "overlap": 0.5,
                # A class that is neither there nor predicted: "nan" leaves
                # it out of the mean, "zero" counts it as 0.
                "absent": "nan",
            },
            "runtime": {
                "strategy": "mirrored",
                # 0 = every GPU, or one CPU replica where there is none.
                "replicas": 0,
                # "auto": a mixed one where a training step is faster so.
                "precision": "float32",
                "xla": False,
                "deterministic": False,
            },
        }
    )


def parse_arg(arg, **defaults):
    """Typed options of a config: `get_config("labels=40,seed=1")`.

    Args:
      arg: text after the colon of `--config=FILE:...`, `name=value` pairs
        with commas between.
      **defaults: every allowed name; a value takes the type of its default.

    Returns:
      ConfigDict of the defaults with what `arg` says.

    Raises:
      ValueError: an unknown name or a value of another type.
    """
    options = config_dict.ConfigDict(defaults)
    for item in filter(None, (arg or "").split(",")):
        name, _, text = item.partition("=")
        if name not in defaults:
            raise ValueError(
                f"Unknown config argument {name!r}. "
                f"Available: {', '.join(defaults)}."
            )
        options[name] = _parse_value(name, text, type(defaults[name]))
    return options


def take(arg, name, default=""):
    """One option out of the argument of a config, and the others.

    Args:
      arg: see `parse_arg`.
      name: of the option.
      default: text of it where it is not there.

    Returns:
      Text of the option, and `arg` without it.
    """
    words = (arg or "").split(",")
    taken = [word for word in words if word.startswith(f"{name}=")]
    value = taken[-1].partition("=")[2] if taken else default
    return value, ",".join(word for word in words if word not in taken)


def _parse_value(name, text, kind):
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"`{name}` must be true or false, not {text!r}.")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise ValueError(
            f"`{name}` must be of type {kind.__name__}. Received: {text!r}."
        ) from None


def validate(config):
    """Checks the common fields.

    Raises:
      ValueError: names the field, the rule and the value.
    """
    flat = flatten(config)
    for field in flatten(base_config()):
        section = field.split(".")[0]
        if field not in flat and section not in ("network", "method"):
            raise ValueError(f"`config.{field}` is missing.")
    for field, (test, rule) in _RULES.items():
        if not test(flat[field]):
            raise ValueError(f"`config.{field}` {rule}. Got: {flat[field]}.")
    height, width = flat["data.crop"]
    if flat["data.transpose_rate"] and height != width:
        raise ValueError(
            "`config.data.transpose_rate` needs a square `config.data.crop`. "
            f"Got: {flat['data.transpose_rate']} and {height} x {width}. Fix: "
            "set it to 0, or choose a square crop."
        )
    split_options.Options(**config.split)


def domain_configs(config):
    """A config for each data set of a run, by name, the main one first.

    Args:
      config: ConfigDict.

    Returns:
      dict; the configs differ in `dataset` and `split`.

    Raises:
      ValueError: a domain has no data set, or the name of the main one.
    """
    configs = {config.dataset.name: config}
    for name, parts in config.get("domains", {}).items():
        if name in configs or "dataset" not in parts:
            raise ValueError(
                f"`config.domains.{name}` must have another name than "
                "`config.dataset`, and a `dataset`. Fix: "
                'config.domains = {"board": {"dataset": {"name": "board", '
                '"dir": "data/board"}}}'
            )
        own = copy.deepcopy(config)
        own.dataset = copy.deepcopy(parts.dataset)
        own.split.update(parts.get("split", {}))
        configs[name] = own
    return configs


def flatten(config, prefix=""):
    """{"train.steps": 3000, ...}; tuples and lists compare equal."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, (dict, config_dict.ConfigDict)):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            value = list(value) if isinstance(value, tuple) else value
            flat[f"{prefix}{name}"] = value
    return flat


def difference(old, new):
    """Lines that say how two configs differ, in the order of the fields."""
    old, new = flatten(old), flatten(new)
    return [
        f"config.{field}: {old.get(field, 'absent')} -> "
        f"{new.get(field, 'absent')}"
        for field in sorted({**old, **new})
        if old.get(field, "absent") != new.get(field, "absent")
    ]
