"""One cell of the table: an agent that plays a fault, and a driver that follows its job."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.scripted import Job, ScriptedAgent, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.tail.drivers import Driver, Outcome

JOB_ID = "j1"
NOTICED_SECONDS = 0.1
"""How much later than the client the server may see that a connection ended."""


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    :param job: makes the job anew.
    :param answers: scripts of other routes.
    :param connects: what meets the first connections.
    :param before: lines of an older log that are forwarded before the log is rewritten.
    :param lost: the log's end can't be had, and that is said.
    :param slow: the end may take longer than promised, since the whole log is not there, a request hangs, or
        the log is so long that a busy machine takes a while over it.
    """

    job: Callable[[], Job]
    answers: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    connects: Sequence[Step] = ()
    before: Sequence[str] = ()
    lost: bool = False
    slow: bool = False


def play(fault: Fault, driver: Driver, protocol: str) -> Outcome:
    """Play a fault to a driver."""
    job = fault.job()
    with ScriptedAgent(job, answers=fault.answers, connects=fault.connects) as agent:
        outcome = driver(agent.url, JOB_ID, protocol)
        outcome.early = job.status in ("PENDING", "RUNNING")
        ended_at = (job.ended or 0) / 1000
        outcome.late = time.time() - ended_at if ended_at else 0.0
        outcome.streams = most_at_once(agent)
        outcome.truth = job.truth()
    return outcome


def most_at_once(agent: ScriptedAgent) -> int:
    """Return how many streams of the job were open at once, as far as the client can know."""
    spans = [
        (request.time, (request.ended or time.monotonic()) - NOTICED_SECONDS)
        for request in tuple(agent.requests)
        if request.path.startswith(f"jobs/{JOB_ID}/logs/")
        and (request.method == "WS" or request.path.endswith("/stream/"))
    ]
    return max((sum(start <= moment < end for start, end in spans) for moment, _ in spans), default=0) or bool(spans)
