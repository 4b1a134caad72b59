"""What a live log's end means, over histories of a scripted Ray."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import pytest
from websockets.exceptions import ConnectionClosedOK

from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.follow import COMPLETE, Event, follow, relay

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from airflow_provider_rayagent.local.ray_api import RayDashboard


class ScriptedRay:
    """A Ray whose tail, statuses and whole log are given.

    :param tail: chunks; ``None`` stands for silence without end.
    :param statuses: answers to one look after the other; the last one stays.
    """

    def __init__(self, tail: Sequence[str | None], statuses: Sequence[str], whole: str | LocalAgentError = "") -> None:
        self._tail = list(tail)
        self._statuses = list(statuses)
        self._whole = whole
        self.tails_open = 0

    @contextlib.asynccontextmanager
    async def tail_job_logs(self, job_id: str) -> AsyncIterator[ScriptedRay]:
        self.tails_open += 1
        try:
            yield self
        finally:
            self.tails_open -= 1

    async def recv(self) -> str:
        if not self._tail:
            raise ConnectionClosedOK(None, None)
        if self._tail[0] is None:
            await asyncio.Event().wait()
        return cast("str", self._tail.pop(0))

    async def get_job(self, job_id: str) -> dict[str, Any]:
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        if status == "DOWN":
            raise RayUnavailableError("down")
        return {"status": status}

    async def get_job_logs(self, job_id: str) -> str:
        if isinstance(self._whole, LocalAgentError):
            raise self._whole
        return self._whole


def events_of(ray: ScriptedRay, quiet: float = 0.01) -> list[Event | None]:
    async def collect() -> list[Event | None]:
        return [event async for event in follow(cast("RayDashboard", ray), "job", quiet)]

    return asyncio.run(collect())


def log(text: str) -> Event:
    return {"type": "log", "message": text}


def test_a_job_that_ended_is_complete() -> None:
    assert events_of(ScriptedRay(["a\n", "b\n"], ["SUCCEEDED"], "a\nb\n")) == [log("a\n"), log("b\n"), COMPLETE]


def test_a_tail_that_ended_while_the_job_runs_is_not_complete() -> None:
    assert events_of(ScriptedRay(["a\n"], ["RUNNING"], "a\n")) == [log("a\n")]


def test_what_the_tail_left_out_of_an_ended_jobs_log_is_sent_before_complete() -> None:
    assert events_of(ScriptedRay(["a\n"], ["FAILED"], "a\nb\n")) == [log("a\n"), log("b\n"), COMPLETE]


def test_a_log_that_was_rewritten_is_an_error_and_not_complete() -> None:
    first, last = events_of(ScriptedRay(["a\n"], ["SUCCEEDED"], "other\n"))

    assert (first, last and last["type"]) == (log("a\n"), "error")


def test_a_whole_log_that_ray_cannot_give_is_an_error_and_not_complete() -> None:
    first, last = events_of(ScriptedRay(["a\n"], ["SUCCEEDED"], RayAnswerError("invalid start byte", 500)))

    assert first == log("a\n")
    assert last
    assert last["type"] == "error"
    assert "invalid start byte" in last["message"]


def test_a_job_without_a_log_is_complete_and_empty() -> None:
    assert events_of(ScriptedRay([], ["STOPPED"])) == [COMPLETE]


def test_a_tail_that_stays_silent_after_the_job_ended_is_given_up() -> None:
    ray = ScriptedRay(["a\n", None], ["RUNNING", "SUCCEEDED"], "a\nb\n")

    assert events_of(ray) == [log("a\n"), None, None, None, log("b\n"), COMPLETE]
    assert ray.tails_open == 0


def test_a_silent_tail_ends_with_ray() -> None:
    ray = ScriptedRay(["a\n", None], ["RUNNING", "DOWN"])

    with pytest.raises(RayUnavailableError):
        events_of(ray)
    assert ray.tails_open == 0


def relayed(
    ray: ScriptedRay, *, end_after: float | None = None, stuck: bool = False
) -> tuple[bool, list[Event | None]]:
    got: list[Event | None] = []

    async def send(event: Event | None) -> None:
        got.append(event)
        if stuck:
            await asyncio.Event().wait()

    async def run() -> bool:
        events: AsyncGenerator[Event | None, None] = follow(cast("RayDashboard", ray), "job", 0.05)
        return await relay(events, send, asyncio.sleep(3600 if end_after is None else end_after))

    return asyncio.run(run()), got


def test_a_relay_says_whether_complete_was_sent() -> None:
    assert relayed(ScriptedRay(["a\n"], ["SUCCEEDED"], "a\n")) == (True, [log("a\n"), COMPLETE])
    assert relayed(ScriptedRay(["a\n"], ["RUNNING"])) == (False, [log("a\n")])
    assert relayed(ScriptedRay(["a\n", None], ["DOWN"])) == (False, [log("a\n")])


@pytest.mark.parametrize("stuck", [True, False])
def test_the_tail_is_closed_when_the_client_goes_away(stuck: bool) -> None:
    ray = ScriptedRay(["a\n", None], ["RUNNING"])

    complete, got = relayed(ray, end_after=0.2, stuck=stuck)

    assert (complete, got[0]) == (False, log("a\n"))
    assert ray.tails_open == 0


def test_a_client_that_does_not_read_holds_the_tail_back() -> None:
    ray = ScriptedRay(["a\n"] * 1000, ["RUNNING"])

    relayed(ray, end_after=0.1, stuck=True)

    assert len(ray._tail) == 999
