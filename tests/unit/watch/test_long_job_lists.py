"""The event loop of the triggerer while a watcher reads long lists of jobs, over a real socket."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook
from airflow_provider_rayagent.triggers import job_watcher
from airflow_provider_rayagent.triggers.job_watcher import RayAgentJobWatcher
from airflow_provider_rayagent.watch.ended_jobs import JobEnd, details_of_end, ends_of
from tests.scripted import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_rayagent.watch.job_lists import EndedJobs
    from tests.unit.support import Serve

LIST = "GET jobs/"
START = 1_700_000_000_000
JOBS: list[dict[str, Any]] = [
    {
        "type": "SUBMISSION",
        "submission_id": f"raysubmit_{number}",
        "status": "SUCCEEDED" if number % 100 else "RUNNING",
        "message": "Job finished successfully.",
        "start_time": START + number,
        "end_time": START + 100_000 + number if number % 100 else None,
        "metadata": {"team": "vision"},
        "runtime_env": {"env_vars": {f"VARIABLE_{index}": "x" * 60 for index in range(15)}},
    }
    for number in range(10_000)
]
TEXT = json.dumps(JOBS)


class Pauses:
    """The longest time for which the running event loop did nothing but one thing, in seconds."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._task = asyncio.create_task(self._measure())

    async def _measure(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self._longest = max(self._longest, time.perf_counter() - before)

    def take(self) -> float:
        """Return it, and begin anew."""
        longest, self._longest = self._longest, 0.0
        return longest

    def end(self) -> None:
        self._task.cancel()


def seconds_to_parse() -> float:
    before = time.perf_counter()
    json.loads(TEXT)
    return time.perf_counter() - before


def test_a_long_list_does_not_hold_the_event_loop(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least of several pauses, since other processes cause pauses as well."""
    monkeypatch.setattr(job_watcher, "MIN_POLL_SECONDS", 0.02)
    serve(answers={LIST: [Answer(200, TEXT.encode())]})
    found: list[float] = []

    async def watch() -> None:
        trigger = RayAgentJobWatcher(poll_interval=0.02, name="other-*")
        pauses = Pauses()

        async def lists() -> AsyncIterator[EndedJobs]:
            async with aclosing(trigger.open_shared_stream(trigger.serialize()[1])) as lists:
                async for each in lists:
                    assert len(each.ends) == 9_900
                    found.append(pauses.take())
                    yield each
                    if len(found) == 6:
                        return

        async for _ in trigger.filter_shared_stream(lists()):
            pytest.fail("No job matches.")
        pauses.end()

    parsing = [seconds_to_parse() for _ in range(3)]
    asyncio.run(watch())
    assert len(found) == 6
    # The first list is not among them: its jobs are new.
    assert min(found[1:]) < min(parsing) / 2, (found, parsing)


def test_of_a_list_that_is_the_same_no_job_is_in_memory_twice(serve: Serve) -> None:
    serve(answers={LIST: [Answer(200, TEXT.encode())]})
    known: dict[str, JobEnd] = ends_of(JOBS, {})
    details = {id(end.job) for end in known.values()}

    async def ask() -> list[dict[str, Any]]:
        async with RayAgentAsyncHook() as hook:
            agent = await hook.get_async_conn()
            call = replace(agent.config.service.list_jobs(), substitute=lambda job: details_of_end(job, known))
            listed: list[dict[str, Any]] = await agent.send(call)
            return listed

    listed = asyncio.run(ask())
    assert len(listed) == len(JOBS)
    assert {id(job) for job in listed if job} == details
    assert len({id(job) for job in listed if not job}) == 1
    assert ends_of(listed, known) == known


@pytest.mark.parametrize("wrong", [JOBS[0], [*JOBS, 3], {"results": [*JOBS, None]}])
def test_a_long_response_of_another_form_is_an_error(serve: Serve, wrong: Any) -> None:
    text = json.dumps(wrong)
    serve(answers={LIST: [Answer(200, text + " " * (120_000 - len(text)))]})

    async def ask() -> None:
        async with RayAgentAsyncHook() as hook:
            await hook.list_jobs()

    with pytest.raises(Exception, match="expected a JSON list of objects, got other JSON"):
        asyncio.run(ask())
