"""No trigger resumes its task so soon after the deferral that Airflow's scheduler would fail the task."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.task_instance import resuming
from airflow_provider_rayagent.task_instance.resuming import MARGIN_SECONDS, seconds_to_resume
from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger
from airflow_provider_rayagent.triggers.capacity import RayAgentCapacityTrigger
from tests.scripted import Application, Job
from tests.stack.processes import NO_AGENT
from tests.unit.supervisor import supervise
from tests.unit.support import make_context
from tests.unit.triggers.driver import fired, make_trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.support import Connect, Serve

SECONDS = 0.7
TRIGGERS: dict[str, Callable[[], Any]] = {
    "job": make_trigger,
    "application": lambda: RayAgentServeApplicationTrigger(name="app"),
    "capacity": lambda: RayAgentCapacityTrigger(num_cpus=0),
}


def seconds_until_fired(monkeypatch: pytest.MonkeyPatch, trigger: Any) -> float:
    """Run a trigger of a task; return how long it takes until it fires."""
    monkeypatch.setattr(resuming, "seconds_to_resume", lambda: SECONDS)
    trigger.task_instance = make_context()["ti"]
    supervise(trigger.task_instance, monkeypatch)
    began = time.monotonic()
    asyncio.run(fired(trigger))
    return time.monotonic() - began


@pytest.mark.parametrize("which", TRIGGERS)
def test_what_has_happened_already_resumes_the_task_later(
    which: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Job("a\n", "SUCCEEDED"), applications=[Application("app")])
    assert seconds_until_fired(monkeypatch, TRIGGERS[which]()) >= SECONDS


def test_so_does_an_agent_that_cannot_be_reached(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(NO_AGENT)
    assert seconds_until_fired(monkeypatch, make_trigger(agent_unreachable_timeout=0)) >= SECONDS


def test_without_a_scheduler_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "sleep", pytest.fail)
    asyncio.run(resuming.pause_until_resumable(time.monotonic(), None))


def test_the_wait_is_longer_than_airflow_takes_to_notice_the_end_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds_to_resume() == 5 + MARGIN_SECONDS
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "30")
    assert seconds_to_resume() == 30 + MARGIN_SECONDS
