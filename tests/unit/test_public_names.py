"""No name that a DAG file may use is added, changed or lost by accident."""

from __future__ import annotations

from pathlib import Path

from tests.unit.public_names import public_names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "public-api.md"


def test_the_page_lists_every_public_name_and_no_other() -> None:
    listed = PAGE.read_text(encoding="utf-8").partition("```text\n")[2].partition("```")[0]
    assert listed.strip() == public_names().strip()
