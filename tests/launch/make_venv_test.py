# SPDX-License-Identifier: Apache-2.0
"""How `make` finds Python 3.11, on machines that only pretend."""

import shutil
import subprocess

import pytest

from tests import miniature


def _run(path, folder):
    """Runs the script where PATH holds the files of one folder alone."""
    root = miniature.command("train")["cwd"]
    return subprocess.run(
        [shutil.which("sh"), "launch/make_venv.sh", str(folder)],
        cwd=root,
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
    )


def _program(path, name, text):
    (path / name).write_text(f"#!{shutil.which('sh')}\n{text}\n")
    (path / name).chmod(0o755)


@pytest.fixture
def path(tmp_path):
    """A machine whose python3 is not 3.11, and a shim with nothing behind."""
    (tmp_path / "bin").mkdir()
    _program(tmp_path / "bin", "python3", "exit 1")
    _program(tmp_path / "bin", "python3.11", "exit 127")
    return tmp_path / "bin"


def test_neither_python_nor_uv_says_what_to_install(path, tmp_path):
    done = _run(path, tmp_path / "venv")
    assert done.returncode == 1
    assert "Install python3.11" in done.stderr and "uv" in done.stderr


def test_uv_provides_python(path, tmp_path):
    _program(path, "uv", 'echo "uv $@"')
    done = _run(path, tmp_path / "venv")
    assert done.returncode == 0
    assert done.stdout == f"uv venv --seed --python 3.11 {tmp_path}/venv\n"


def test_python_3_11_of_any_name_is_taken(path, tmp_path):
    _program(path, "python", 'test "$1" = -c || echo "python $@"')
    done = _run(path, tmp_path / "venv")
    assert done.stdout == f"python -m venv {tmp_path}/venv\n"


def test_environment_of_another_python_is_not_used(path, tmp_path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    _program(tmp_path / "venv" / "bin", "python", "exit 1")
    done = _run(path, tmp_path / "venv")
    assert done.returncode == 1 and "Remove it" in done.stderr
