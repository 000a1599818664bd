# SPDX-License-Identifier: Apache-2.0
"""Measures what things cost here.

    python -m launch.benchmark --suite=networks --json=benchmark.jsonl

Prints a table and adds one line of JSON per case to the file.
"""

import importlib
import pkgutil

from absl import flags, logging

import configs
from configs import networks
from launch import entry
from tfseg import lookup

_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
_SUITE = flags.DEFINE_string(
    "suite",
    None,
    "What to measure: step, pipeline, evaluate, serving, networks, decoders, "
    "dc_loss, dilated_conv, scale, startup.",
    required=True,
)
_JSON = flags.DEFINE_string("json", None, "File to add the records to.")
_NETWORKS = flags.DEFINE_list(
    "networks",
    None,
    "Names in configs/networks.py, with commas between. Default: those of the "
    "suite.",
)
_METHODS = flags.DEFINE_list(
    "methods",
    None,
    "Of configs/digits_<method>.py, with commas between. Default: those of "
    "the suite.",
)
_SIZE = flags.DEFINE_integer(
    "size", None, "Side of the images, pixels.", lower_bound=1
)
_BATCH = flags.DEFINE_integer("batch", None, "Images in a step.", lower_bound=1)
_PRECISION = flags.DEFINE_list(
    "precision",
    None,
    f"{', '.join(_POLICIES)}, with commas between.",
)
flags.register_validator(
    _PRECISION,
    lambda values: set(values or ()) <= set(_POLICIES),
    f"must be of {', '.join(_POLICIES)}",
)
_XLA = flags.DEFINE_list(
    "xla", None, "off, on, or both with a comma between: compiled by XLA."
)
flags.register_validator(
    _XLA, lambda values: set(values or ()) <= {"off", "on"}, "must be off, on"
)
_STEPS = flags.DEFINE_integer(
    "steps", None, "Of the run whose memory is watched.", lower_bound=1
)
_REPEATS = flags.DEFINE_integer(
    "repeats", None, "Times that each case is timed.", lower_bound=1
)


def _options(suite):
    """The keyword arguments of a suite's `run`, from the flags."""
    given = {
        "networks": _NETWORKS.value,
        "methods": _METHODS.value,
        "size": _SIZE.value,
        "batch": _BATCH.value,
        "precision": _PRECISION.value,
        "xla": _XLA.value and [value == "on" for value in _XLA.value],
        "steps": _STEPS.value,
        "repeats": _REPEATS.value,
    }
    given = {name: value for name, value in given.items() if value is not None}
    known = lookup.options(suite.run)
    # Those of a suite that trains are whole configs, chosen by --methods.
    taken = ["methods" if name == "configs" else name for name in known]
    for name in given:
        if name not in taken:
            raise ValueError(
                f"--suite={_SUITE.value} takes no --{name}. "
                f"It takes: {', '.join(f'--{option}' for option in taken)}."
            )
    if "networks" in known:
        names = given.get("networks", suite.NETWORKS or networks.NETWORKS)
        given["networks"] = {name: networks.get(name) for name in names}
    if "methods" in taken:
        found = _configs(given.pop("methods", suite.METHODS))
    if "configs" in known:
        given["configs"] = found
    elif "methods" in known:
        given["methods"] = {
            name: config.method.to_dict() for name, config in found.items()
        }
    return given


def _configs(names):
    """{name: config} of the embedded data set; of all methods for ()."""
    prefix = "digits_"
    known = [
        info.name.removeprefix(prefix)
        for info in pkgutil.iter_modules(configs.__path__)
        if info.name.startswith(prefix)
    ]
    found = {}
    for name in names or known:
        if name not in known:
            raise ValueError(
                f"Unknown method {name!r}.{lookup.suggestion(name, known)} "
                f"Available: {', '.join(known)}."
            )
        module = importlib.import_module(f"configs.{prefix}{name}")
        found[name] = module.get_config()
    return found


def main(argv):
    del argv
    # Not at the top: --help should not wait for TensorFlow.
    from tfseg.benchmarks import base

    suite = lookup.module("benchmarks", _SUITE.value)
    options = _options(suite)
    if _JSON.value:
        # Before the work, so that its result is not lost.
        open(_JSON.value, "a").close()
    shared = {"suite": _SUITE.value, **base.machine()}
    logging.info("%s, %d cores", shared["device"], shared["cpus"])
    print(base.heading(suite.COLUMNS), flush=True)
    for record in suite.run(**options):
        print(base.row(record, suite.COLUMNS), flush=True)
        if _JSON.value:
            base.append(_JSON.value, {**shared, **record})


if __name__ == "__main__":
    entry.run(main)
