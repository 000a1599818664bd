# SPDX-License-Identifier: Apache-2.0
"""Runs scripts in processes that need not import TensorFlow again.

That takes four seconds, longer than most scripts need on a miniature. A
server imports it once and is forked for each script, which imports tfseg
itself and has flags, environment, working directory and output of its own.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.libraries"])


def run(args, cwd, env):
    """As `subprocess.run(..., capture_output=True, text=True)` does.

    Args:
      args: [python, "-m", module, words...] or [python, "-c", code, words...].
      cwd: working directory, from which modules are imported.
      env: dict, the whole environment.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("out", "err")]
        process = _CONTEXT.Process(
            target=_be_script, args=(args[1:], str(cwd), dict(env), paths)
        )
        process.start()
        process.join()
        texts = []
        for path in paths:
            with open(path, encoding="utf-8") as file:
                texts.append(file.read())
    return subprocess.CompletedProcess(args, process.exitcode, *texts)


def _be_script(words, cwd, env, paths):
    """Multiprocessing reports exceptions and exits as the interpreter does."""
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    option, script, *words = words
    sys.argv = [script if option == "-m" else option, *words]
    try:
        if option == "-m":
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            exec(script, {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()
