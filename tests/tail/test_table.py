"""Every fault, protocol and driver: every line is forwarded once, in order and unchanged, and the tail ends soon."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentLogsUnavailableError
from airflow_provider_rayagent.render.messages import JobProgress
from tests.tail.figures import figure
from tests.tail.jobs import STATUS
from tests.tail.table import CELLS_BY_LEVEL, Cell
from tests.unit.tail.history import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.tail.drivers import Outcome

STATUS_REQUESTS = 3
"""Maximum after the job's end: one in flight, one that detects the end, one for the details."""
REQUESTS = 12
"""Maximum after the job's end, including requests for its status and redirected ones."""


@pytest.fixture(scope="module")
def late() -> Iterator[list[float]]:
    """Seconds from the end of each job to the end of its tail."""
    seconds: list[float] = []
    yield seconds
    if len(seconds) > 1:
        cuts = statistics.quantiles(seconds, n=100)
        figure(f"from a job's end to that of its following: median {cuts[49]:.1f} s, 99% under {cuts[98]:.1f} s")


def stated(text: str) -> tuple[dict[str, Any], dict[str, str], JobProgress | None]:
    """Return the XComs, the links and the progress that the messages in a log state."""
    found = [json.loads(line.split(" ", 1)[1]) for line in text.split("\n") if line.startswith("__RAYAGENT_MESSAGE__ ")]
    data = {kind: [each["data"] for each in found if each["kind"] == kind] for kind in ("xcom", "link", "progress")}
    xcoms = {key: value for each in data["xcom"] for key, value in each.items()}
    progress = [JobProgress(**each) for each in data["progress"]]
    return xcoms, {each["name"]: each["url"] for each in data["link"]}, progress[-1] if progress else None


@pytest.mark.parametrize("cell", CELLS_BY_LEVEL, ids="-".join)
def test_every_line_is_forwarded_once_in_order_and_the_tail_ends_soon(
    cell: Cell, outcome_of: Callable[[Cell], Outcome], late: list[float]
) -> None:
    row = cell.row
    outcome = outcome_of(cell)
    if row.lost:
        assert outcome.lines == list(row.before)
        assert isinstance(outcome.error, RayAgentLogsUnavailableError) or outcome.notices
        return
    assert outcome.error is None
    assert outcome.lines == [*row.before, *lines_of(outcome.truth, 8_000_000)]
    if outcome.messages is not None:
        assert (outcome.messages.xcoms, outcome.messages.links, outcome.messages.progress) == stated(outcome.truth)
    said = [notice for notice in outcome.notices if "The agent reports" not in notice]
    assert len(said) <= bool(row.before)
    assert outcome.streams <= 1
    if not row.slow:
        # How long that takes depends on the machine, and is printed below the report.
        assert outcome.after.count(STATUS) <= STATUS_REQUESTS
        assert len(outcome.after) <= REQUESTS
        late.append(outcome.late)
