"""No name that a DAG file may use is added, changed or lost by accident."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "public_names.txt"


def test_the_list_has_every_public_name_and_no_other() -> None:
    listed = LIST.read_text(encoding="utf-8")
    # In an interpreter of its own: tests replace methods of the classes.
    command = [sys.executable, "-m", "tests.unit.public_names"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert listed.strip().split("\n") == found.strip().split("\n")
