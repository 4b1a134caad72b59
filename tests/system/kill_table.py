"""What each kind of kill did to the job and to the lines, measured and printed below the test report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

HEAD = ("what happened", "sensor", "over", "job afterwards", "lines", "missing", "repeated", "last message", "XCom")

AGENT, PLAIN_RAY = "agent", "plain Ray"

_rows: list[Row] = []


@dataclass(frozen=True)
class Row:
    """A kill, and what came of it.

    :param what: what was done.
    :param sensor: in which mode the sensor was, and whether it stops the job on a kill.
    :param job: the job's status after it.
    :param written: what the job wrote; no two lines are equal.
    :param read: what the task log has of it.
    :param service: what the job was followed over.
    :param printed: the number in the last message that the job printed; ``None``: nobody read its messages to the end.
    :param xcom: the number that its XCom has.
    """

    what: str
    sensor: str
    job: str
    written: Sequence[str]
    read: Sequence[str]
    service: str = AGENT
    printed: int | None = None
    xcom: int | None = None

    @property
    def missing(self) -> list[str]:
        """The lines that the task log does not have."""
        return list((Counter(self.written) - Counter(self.read)).elements())

    @property
    def repeated(self) -> list[str]:
        """The lines that the task log has once more, as often as it does."""
        return list((Counter(self.read) - Counter(self.written)).elements())

    @property
    def is_in_order(self) -> bool:
        """Whether the lines come in the job's order, but for the repeated ones."""
        return list(dict.fromkeys(self.read)) == list(self.written)

    def cells(self) -> tuple[str, ...]:
        """Return the row as it is printed."""
        numbers = (len(self.written), len(self.missing), len(self.repeated))
        messages = ("" if each is None else str(each) for each in (self.printed, self.xcom))
        return (self.what, self.sensor, self.service, self.job, *map(str, numbers), *messages)


def record(row: Row) -> Row:
    """Have a row printed below the report."""
    _rows.append(row)
    return row


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if not _rows:
        return
    table = [HEAD, ("---",) * len(HEAD), *(row.cells() for row in _rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section("what a kill does to the job and to its log")
    for cells in table:
        padded = (cell.ljust(width, "-" if cell == "---" else " ") for cell, width in zip(cells, widths, strict=True))
        terminalreporter.write_line(f"| {' | '.join(padded)} |")
