"""Live logs and their end, with a scripted Ray."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_provider_rayagent.local import job_logs, log_streams
from airflow_provider_rayagent.local.errors import LocalAgentError, RayResponseError, RayUnavailableError, TooManyError
from airflow_provider_rayagent.local.job_logs import JobLogs
from airflow_provider_rayagent.local.log_streams import EventStream, relay

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from starlette.types import Message

    from airflow_provider_rayagent.local.ray_api import RayDashboard

Event = dict[str, str]
COMPLETE = {"type": "complete"}
PIECE = 1_000
"""Characters of a log that arrive at once."""


class ScriptedRay:
    """A Ray with given logs and statuses of a job.

    :param logs: what consecutive readings of the log return, or the error that they raise; the last one is repeated.
    :param statuses: results of consecutive status checks; the last one is repeated.
    :ivar busiest: maximum number of logs that were read at the same time.
    """

    def __init__(self, logs: Sequence[str | LocalAgentError], statuses: Sequence[str]) -> None:
        self.logs = list(logs)
        self.statuses = list(statuses)
        self.readings = self.busiest = 0
        self._in_hand = 0

    async def get_job(self, job_id: str) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == "DOWN":
            raise RayUnavailableError("down")
        return {"submission_id": job_id, "status": status}

    async def log_text(self, job: dict[str, Any], *, is_whole: bool) -> AsyncGenerator[str, None]:
        self.readings += 1
        found = self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]
        if isinstance(found, LocalAgentError):
            raise found
        self._in_hand += 1
        self.busiest = max(self.busiest, self._in_hand)
        try:
            for start in range(0, len(found), PIECE):
                await asyncio.sleep(0)
                yield found[start : start + PIECE]
        finally:
            self._in_hand -= 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_logs, "READ_INTERVAL", 0.01)


def logs_of(ray: ScriptedRay) -> JobLogs:
    return JobLogs(cast("RayDashboard", ray))


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)


async def events_of(stream: AsyncGenerator[list[str], None]) -> list[Event]:
    return [json.loads(event) async for events in stream for event in events]


def followed(*logs: str | LocalAgentError, statuses: Sequence[str]) -> tuple[str, Event | None]:
    """Return the text that one follower receives, and the last event if it is of another kind."""

    async def play() -> list[Event]:
        return await events_of(await logs_of(ScriptedRay(logs, statuses)).follow("job"))

    events = asyncio.run(play())
    last = events.pop() if events and events[-1]["type"] != "log" else None
    assert {event["type"] for event in events} <= {"log"}
    return text_of(events), last


def text_of(events: Sequence[Event]) -> str:
    return "".join(event["message"] for event in events if event["type"] == "log")


def test_the_log_of_a_job_that_has_ended_is_complete() -> None:
    assert followed("a\nb\n", statuses=["SUCCEEDED"]) == ("a\nb\n", COMPLETE)
    assert followed("", statuses=["STOPPED"]) == ("", COMPLETE)


@pytest.mark.parametrize(
    "logs",
    [
        ["a\n", "a\nb", "a\nb\nc\n"],
        ["", "", "a\nb\nc\n"],
        ["a\nb\nc\n"],
        ["é" * 1_500, "é" * 1_500 + "漢\n" * 900_000],
    ],
    ids=["grows", "late", "at once", "long"],
)
def test_each_part_of_a_log_that_grows_is_sent_once(logs: list[str]) -> None:
    assert followed(*logs, statuses=["RUNNING"] * 4 + ["FAILED"]) == (logs[-1], COMPLETE)


@pytest.mark.parametrize("other", ["other\n", "a", "", "a\r", "b\nmore\n"])
def test_a_rewritten_log_is_an_error(other: str) -> None:
    for statuses in (["RUNNING"] * 3 + ["SUCCEEDED"], ["RUNNING"]):
        text, last = followed("a\n", other, statuses=statuses)
        assert (text, last and last["type"]) == ("a\n", "error")


def test_a_log_that_cannot_be_read_after_the_end_is_an_error() -> None:
    fault = RayResponseError("invalid start byte", 500)
    text, last = followed("a\n", fault, statuses=["RUNNING", "RUNNING", "SUCCEEDED"])
    assert text == "a\n"
    assert last
    assert (last["type"], "invalid start byte" in last["message"]) == ("error", True)


@pytest.mark.parametrize("fault", [RayResponseError("busy", 500), RayUnavailableError("down")])
def test_a_failure_of_ray_while_the_job_runs_is_passed_over(fault: LocalAgentError) -> None:
    faults: list[str | LocalAgentError] = [fault] * (job_logs.MAX_FAILURES - 1)
    logs = ["a\n", *faults, "a\nb\n", *faults, "a\nb\nc\n"]
    assert followed(*logs, statuses=["RUNNING"] * 10 + ["SUCCEEDED"]) == ("a\nb\nc\n", COMPLETE)
    down = ["DOWN"] * (job_logs.MAX_FAILURES - 1)
    assert followed("a\n", statuses=["RUNNING", "RUNNING", *down, "SUCCEEDED"]) == ("a\n", COMPLETE)


@pytest.mark.parametrize("fault", [RayResponseError("busy", 500), RayUnavailableError("down")])
def test_a_stream_ends_without_a_last_event_if_ray_fails_repeatedly(fault: LocalAgentError) -> None:
    assert followed("a\n", *[fault] * job_logs.MAX_FAILURES, "a\nb\n", statuses=["RUNNING"]) == ("a\n", None)
    assert followed("a\n", statuses=["RUNNING", "RUNNING", "DOWN"]) == ("a\n", None)


def test_a_late_follower_gets_the_log_so_far_in_few_events() -> None:
    async def play() -> int:
        stream = await logs_of(ScriptedRay(["a line\n" * 100_000], ["SUCCEEDED"])).follow("job")
        return len(await events_of(stream))

    assert asyncio.run(play()) < 2 * 700_000 / 10_000


def test_few_logs_are_read_at_the_same_time() -> None:
    async def play() -> None:
        ray = ScriptedRay(["x" * 20 * PIECE], ["SUCCEEDED"])
        logs = logs_of(ray)
        streams = [await logs.follow("job") for _ in range(40)]
        for events in await asyncio.gather(*map(events_of, streams)):
            assert text_of(events) == "x" * 20 * PIECE
            assert events[-1] == COMPLETE
        assert ray.busiest == job_logs.MAX_LOG_READS

    asyncio.run(play())


def test_a_log_is_not_read_once_its_stream_is_closed() -> None:
    async def play() -> None:
        ray = ScriptedRay(["x" * 1_000_000], ["RUNNING"])
        stream = await logs_of(ray).follow("job")
        assert await anext(stream)
        await stream.aclose()
        readings = ray.readings
        await asyncio.sleep(0.1)
        assert ray.readings == readings == 1

    asyncio.run(play())


def test_streams_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_logs, "MAX_STREAMS", 2)

    async def play() -> None:
        logs = logs_of(ScriptedRay(["a\n"], ["SUCCEEDED"]))
        live, whole = await logs.follow("one"), logs.whole("two")
        assert await anext(whole) == b"a\n"
        with pytest.raises(TooManyError, match="streams") as caught:
            await logs.follow("three")
        assert caught.value.status_code == 429
        with pytest.raises(TooManyError, match="streams"):
            await anext(logs.whole("three"))
        await whole.aclose()
        other = await logs.follow("three")
        await live.aclose()
        assert text_of(await events_of(other)) == "a\n"
        assert logs._streams == 0

    asyncio.run(play())


def relayed(
    ray: ScriptedRay, send: Callable[[list[str]], Awaitable[None]], *, end_after: float = 3600
) -> tuple[bool, JobLogs]:
    async def play() -> tuple[bool, JobLogs]:
        logs = logs_of(ray)
        ended = await relay(await logs.follow("job"), send, asyncio.sleep(end_after))
        return ended, logs

    return asyncio.run(play())


def test_relay_returns_whether_all_blocks_were_sent_and_closes_the_stream() -> None:
    got: list[str] = []

    async def send(events: list[str]) -> None:
        got.extend(events)

    async def fail(events: list[str]) -> None:
        raise OSError

    ended, logs = relayed(ScriptedRay(["a\n"], ["SUCCEEDED"]), send)
    assert (ended, logs._streams) == (True, 0)
    assert [json.loads(each) for each in got] == [{"type": "log", "message": "a\n"}, COMPLETE]
    ended, logs = relayed(ScriptedRay([""], ["RUNNING"]), send, end_after=0.2)
    assert (ended, logs._streams) == (False, 0)
    ended, logs = relayed(ScriptedRay(["a\n"], ["SUCCEEDED"]), fail)
    assert (ended, logs._streams) == (False, 0)


def test_clients_that_do_not_read_do_not_block_others() -> None:
    async def play() -> None:
        logs = logs_of(ScriptedRay(["x" * 1_000_000], ["SUCCEEDED"]))
        taken: list[list[str]] = []

        async def take_one(events: list[str]) -> None:
            taken.append(events)
            await asyncio.Event().wait()

        over = asyncio.Event()
        count = 2 * job_logs.MAX_LOG_READS
        stuck = [asyncio.ensure_future(relay(await logs.follow("job"), take_one, over.wait())) for _ in range(count)]
        await until(lambda: len(taken) == count)
        assert text_of(await events_of(await logs.follow("job"))) == "x" * 1_000_000
        assert len(taken) == count
        over.set()
        assert await asyncio.gather(*stuck) == [False] * count

    asyncio.run(play())


def test_a_silent_job_has_keep_alives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_streams, "KEEP_ALIVE_SECONDS", 0.01)

    async def play() -> None:
        bodies: list[bytes] = []
        stream = await logs_of(ScriptedRay([""], ["RUNNING"])).follow("job")

        async def receive() -> Message:
            await until(lambda: len(bodies) == 3)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            bodies.extend([message["body"]] if message.get("body") else [])

        await EventStream(stream, asyncio.Event())({"type": "http"}, receive, send)
        assert bodies[:3] == [b"\n"] * 3

    asyncio.run(play())
