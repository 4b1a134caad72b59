"""What Ray's own client makes of the rows of the table: figures to compare with, and no condition."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted import ScriptedAgent
from tests.stack.watch import PATIENCE
from tests.tail.conftest import PLAYED_AT_ONCE
from tests.tail.faults import WHOLE
from tests.tail.figures import figure
from tests.tail.ray_faults import LOG, REFUSED, STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Job
    from tests.tail.stage import Fault

TAIL = "WS jobs/j1/logs/"
END_SECONDS = 6.0
"""From the beginning; a job of the table runs for up to 2 seconds."""
WHOLE_LOG = "the whole log"
LESS = "not the whole log, and no error"


@pytest.fixture(scope="module")
def client() -> Any:
    """Return ``JobSubmissionClient``."""
    return pytest.importorskip("ray.job_submission").JobSubmissionClient


def on_the_tail(fault: Fault) -> Fault:
    """Return the row with what meets the requests for the log on Ray's WebSocket instead, which its client reads."""

    def job() -> Job:
        made = fault.job()
        made.ws = made.full
        return made

    answers = {TAIL if route == WHOLE else route: steps for route, steps in fault.answers.items()}
    return replace(fault, job=job, answers=answers)


def followed(client: Callable[[str], Any], fault: Fault, seconds: float = END_SECONDS) -> str:
    """Return what comes of following the job with Ray's client, once, if it ends within ``seconds``."""
    job = fault.job()

    async def follow(url: str) -> str:
        return "".join([piece async for piece in client(url).tail_job_logs("j1")])

    with ScriptedAgent(job, answers=fault.answers, connects=fault.connects, service="ray") as agent:
        try:
            text = asyncio.run(asyncio.wait_for(follow(agent.url.rstrip("/")), seconds))
        except (asyncio.TimeoutError, TimeoutError):
            return "no end"
        except Exception:  # noqa: BLE001 - whatever the client raises
            return "an error"
        return WHOLE_LOG if text == job.truth() else LESS


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated")
def test_rays_own_client_over_the_same_rows(client: Callable[[str], Any]) -> None:
    rows = {**LOG, **REFUSED, **STATES}
    # Alone and without a limit: it is the only condition.
    no_fault = followed(client, on_the_tail(rows.pop("no fault")), PATIENCE)
    with ThreadPoolExecutor(PLAYED_AT_ONCE) as pool:
        ends = dict(zip(rows, pool.map(lambda row: followed(client, on_the_tail(row)), rows.values()), strict=True))
    ends["no fault"] = no_fault
    counted = ", ".join(f"{number} {end}" for end, number in Counter(ends.values()).most_common())
    figure(f"Ray's own client (tail_job_logs), {len(ends)} rows over Ray's dashboard: {counted}")
    figure(f"  {LESS}: {', '.join(name for name, end in ends.items() if end == LESS)}")
    assert no_fault == WHOLE_LOG
