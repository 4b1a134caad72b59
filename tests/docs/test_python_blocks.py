"""The Python in the pages is complete: each block runs as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.conftest import PAGES, ROOT, code_blocks, run_block

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = [
    (path, block)
    for path in (*sorted(PAGES.glob("*.md")), ROOT / "README.md")
    for block in code_blocks(path.read_text(encoding="utf-8"), "python")
]


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 10


@pytest.mark.parametrize(("path", "block"), BLOCKS, ids=lambda each: getattr(each, "name", None))
def test_a_block_runs(path: Path, block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_block(block, path.name, monkeypatch)
