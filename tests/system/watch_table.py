"""How many events of ended jobs came while triggerers were killed, printed below the test report."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_rows: list[WatchRow] = []


@dataclass(frozen=True)
class WatchRow:
    """What came of the jobs of one asset.

    :param kills: how often a triggerer was killed meanwhile.
    :param while_dead: jobs that ended while no triggerer ran.
    """

    asset: str
    jobs: int
    kills: int
    while_dead: int
    events: int
    missing: int
    repeated: int


def record(row: WatchRow) -> None:
    """Have a row printed below the report."""
    _rows.append(row)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if not _rows:
        return
    terminalreporter.section("events of ended jobs while triggerers are killed")
    names = [each.name.replace("_", " ") for each in fields(WatchRow)]
    for cells in [names, ["---"] * len(names), *(map(str, astuple(row)) for row in _rows)]:
        padded = (cell.ljust(len(name), "-" if cell == "---" else " ") for cell, name in zip(cells, names, strict=True))
        terminalreporter.write_line(f"| {' | '.join(padded)} |")
