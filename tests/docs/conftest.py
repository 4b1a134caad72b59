"""The pages, as Sphinx builds them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from airflow import __version__ as airflow_version

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs"
OF_CLUSTER = ("ray.train", "ray.train.torch")
"""Modules that only a cluster has."""


def code_blocks(text: str, language: str) -> list[str]:
    """Return the code in the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run_block(block: str, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run an example in Python as it stands; return its names.

    :param name: where it is, for a traceback.
    """
    if ".loop(" in block and re.match(r"3\.[0-3]\.", airflow_version):
        pytest.skip("task loops need Airflow 3.4")
    if "airflow" not in block:
        for module in OF_CLUSTER:
            monkeypatch.setitem(sys.modules, module, MagicMock())
    names: dict[str, Any] = {"__name__": "block"}
    exec(compile(block, name, "exec"), names)
    return names


def run(*command: str | Path, **variables: str) -> str:
    """Run a command at the root of the checkout, with more variables in its environment; return what it prints."""
    env = os.environ | variables
    done = subprocess.run(
        list(map(str, command)), env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the pages, built as ``python3 dev.py docs`` does."""
    folder = tmp_path_factory.mktemp("site")
    home = tmp_path_factory.mktemp("home")
    run(sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", PAGES, folder, AIRFLOW_HOME=str(home))
    return folder
