# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

_PROGRAM = """
from absl import logging
from launch import entry

def main(argv):
    logging.info("started %s", argv[1:])
    {body}

def parse(argv):
    {parse}
    from absl import flags
    return flags.FLAGS(argv)

entry.run(main, flags_parser=parse)
"""


def _run(body="", *arguments, parse="pass"):
    program = _PROGRAM.format(body=body, parse=parse)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
    )


def test_success_is_0_and_info_is_logged():
    done = _run("return None")
    assert done.returncode == 0 and "started []" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError('a.png: is bad')",
        "raise FileNotFoundError('a.png: is bad')",
        "raise FloatingPointError('a.png: is bad')",
    ],
)
def test_mistake_is_one_line_and_1(body):
    done = _run(body)
    assert done.returncode == 1
    assert "a.png: is bad" in done.stderr
    assert "Traceback" not in done.stderr


def test_mistake_in_the_flags_is_one_line_too():
    done = _run(parse="raise ValueError('no such config')")
    assert done.returncode == 1 and "no such config" in done.stderr
    assert "Traceback" not in done.stderr


def test_bug_shows_where_it_is():
    done = _run("raise TypeError('a bug')")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_verbosity_decides():
    done = _run("raise ValueError('bad')", "--verbosity=1")
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert "started" not in _run("return None", "--verbosity=-1").stderr


def test_interruption_is_one_line():
    done = _run("raise KeyboardInterrupt")
    assert done.returncode == 1 and "Traceback" not in done.stderr
