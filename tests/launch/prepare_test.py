# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

from tfseg.datasets import digits


def _run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "launch.prepare", *arguments],
        capture_output=True,
        text=True,
    )


def test_digits_are_written_once(tmp_path):
    folder = str(tmp_path / "data" / "digits")
    done = _run("--dataset=digits", f"--dir={folder}")
    assert done.returncode == 0, done.stderr
    assert f"digits is ready in {folder}" in done.stderr
    dataset = digits.build(dir=folder)
    assert len(dataset.partitions["train"]) == 1200
    assert _run("--dataset=digits", f"--dir={folder}").returncode == 0
    other = _run("--dataset=digits", f"--dir={folder}", "--seed=1")
    assert other.returncode == 1 and "asked for 1" in other.stderr
    assert "Traceback" not in other.stderr


def test_mistakes_are_named(tmp_path):
    folder = f"--dir={tmp_path / 'd'}"
    for arguments, message in [
        (["--dataset=digit", folder], "Did you mean 'digits'?"),
        (["--dataset=folder", folder], "has nothing to prepare"),
        (["--dataset=digits"], "--dir must have a value"),
        (["--dataset=digits", folder, "x"], "Unexpected words: x"),
    ]:
        done = _run(*arguments)
        assert done.returncode == 1, arguments
        assert message in done.stderr + done.stdout, done.stderr
        assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []
