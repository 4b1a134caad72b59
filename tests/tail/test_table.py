"""Every fault, by every protocol, through every driver: every line once, in order, unchanged, and in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.agent.errors import RayAgentLogsUnavailableError
from tests.tail.columns import DRIVERS
from tests.tail.drivers import POLL_SECONDS, PROTOCOLS
from tests.tail.faults import FAULTS
from tests.unit.logs.history import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tail.drivers import Outcome

BUSY_MACHINE_SECONDS = 5.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_line_comes_once_in_order_and_the_end_in_time(
    fault: str, driver: str, protocol: str, outcome_of: Callable[[tuple[str, str, str]], Outcome]
) -> None:
    row = FAULTS[fault]
    outcome = outcome_of((fault, driver, protocol))
    if row.lost:
        assert outcome.lines == []
        assert isinstance(outcome.error, RayAgentLogsUnavailableError) or outcome.notices
        return
    assert outcome.error is None
    assert outcome.lines == [*row.before, *lines_of(outcome.truth, 8_000_000)]
    said = [notice for notice in outcome.notices if "The agent reports" not in notice]
    assert len(said) <= bool(row.before)
    assert outcome.streams <= 1
    if not row.slow:
        assert outcome.late < POLL_SECONDS + 2 + BUSY_MACHINE_SECONDS
