"""The Python in the pages is complete: each block runs as it stands."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import pytest
from airflow import __version__ as airflow_version

from tests.docs.conftest import PAGES, ROOT, code_blocks

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = [
    (path, block)
    for path in (*sorted(PAGES.glob("*.md")), ROOT / "README.md")
    for block in code_blocks(path.read_text(encoding="utf-8"), "python")
]
OF_CLUSTER = ("ray.train", "ray.train.torch")
"""Modules that only a cluster has."""


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 10


@pytest.mark.parametrize(("path", "block"), BLOCKS, ids=lambda each: getattr(each, "name", None))
def test_a_block_runs(path: Path, block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if ".loop(" in block and re.match(r"3\.[0-3]\.", airflow_version):
        pytest.skip("task loops need Airflow 3.4")
    if "airflow" not in block:
        for name in OF_CLUSTER:
            monkeypatch.setitem(sys.modules, name, MagicMock())
    exec(compile(block, path.name, "exec"), {"__name__": "block"})
