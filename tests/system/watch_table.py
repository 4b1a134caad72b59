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
    table = [names, ["---"] * len(names), *([str(cell) for cell in astuple(row)] for row in _rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = (cell.ljust(width, "-" if cell == "---" else " ") for cell, width in zip(cells, widths, strict=True))
        terminalreporter.write_line(f"| {' | '.join(padded)} |")
