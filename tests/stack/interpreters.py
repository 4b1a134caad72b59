"""Other Python interpreters that some tests run, named by environment variables or by their version."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def interpreter(variable: str, module: str) -> str:
    """Return the interpreter that an environment variable names, if it can import a module.

    Otherwise, skip the test, or fail it if ``CI`` is set.
    """
    python = os.environ.get(variable)
    problem = _problem(variable, python, module)
    if problem:
        reason = f"{problem}; tests/README.md says how to have one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    assert python
    return python


def _problem(variable: str, python: str | None, module: str) -> str | None:
    if not python:
        return f"{variable} names no Python with {module}"
    try:
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True)
    except OSError as error:
        return f"{variable}: {error}"
    return f"{variable}: {python} cannot import {module}" if done.returncode else None


def python_of_version(version: str) -> str | None:
    """Return a Python of a version, such as ``3.10``, on ``PATH`` or in pyenv; ``None`` if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for python in (shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python"))):
        if python is None:
            continue
        # One on PATH may be pyenv's, which runs another one that depends on the environment, or none.
        done = subprocess.run([python, "-c", "import sys; print(sys.executable)"], stdout=subprocess.PIPE, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
    return None
