"""The pages, as Sphinx builds them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs"


def code_blocks(text: str, language: str) -> list[str]:
    """Return the code in the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


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
