"""One cell of the table: an agent that plays a fault, and a driver that follows its job."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.draining import SETTLE_SECONDS
from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT
from tests.scripted import Job, ScriptedAgent, Step
from tests.tail.drivers import HANG_SECONDS, RAY, config_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.services.service import ServiceName
    from tests.tail.drivers import Driver, Outcome

JOB_ID = "j1"


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    :param job: makes the job anew.
    :param answers: scripts of other routes.
    :param connects: what meets the first connections.
    :param before: lines that are forwarded before the log is rewritten, or lost.
    :param lost: the log's end can't be had, and that is said.
    :param hangs: a request is never answered.
    :param slow: the end may take more requests than promised, since the whole log is not there, or a request hangs.
    """

    job: Callable[[], Job]
    answers: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    connects: Sequence[Step] = ()
    before: Sequence[str] = ()
    lost: bool = False
    hangs: bool = False
    slow: bool = False


def play(fault: Fault, driver: Driver, protocol: str, *, is_cluster: bool = False) -> Outcome:
    """Play a fault against a driver, again if the machine was so slow that the agent broke its own promise.

    :param is_cluster: whether the connection is one with several clusters.
    """
    while True:
        job, outcome = _played(fault, driver, protocol, is_cluster=is_cluster)
        if job.over_at is None or job.grown_at < job.over_at + SETTLE_SECONDS:
            return outcome


def _played(fault: Fault, driver: Driver, protocol: str, *, is_cluster: bool) -> tuple[Job, Outcome]:
    job = fault.job()
    service: ServiceName = "ray" if protocol == RAY else "agent"
    with ScriptedAgent(job, answers=fault.answers, connects=fault.connects, service=service) as agent:
        timeout = HANG_SECONDS if fault.hangs else MAX_TIMEOUT
        config = config_of(agent.url, protocol, timeout, is_cluster=is_cluster)
        outcome = driver(config, JOB_ID, protocol)
        outcome.early = job.status in ("PENDING", "RUNNING")
        if job.over_at is not None:
            outcome.late = time.monotonic() - job.over_at
            outcome.after = [request.route for request in tuple(agent.requests) if request.time > job.over_at]
        outcome.streams = agent.max_open_streams[JOB_ID]
        outcome.truth = job.truth()
    return job, outcome
