"""Live logs and their end, with a scripted Ray."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_provider_rayagent.local import follow, job_logs
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError, TooManyError
from airflow_provider_rayagent.local.job_logs import JobLogs
from airflow_provider_rayagent.local.log_responses import relay
from airflow_provider_rayagent.local.spool import MAX_ACTIVE_READERS
from airflow_provider_rayagent.local.sse_encoding import messages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from airflow_provider_rayagent.local.job_logs import LogReader
    from airflow_provider_rayagent.local.ray_api import RayDashboard

Event = dict[str, str]
COMPLETE = {"type": "complete"}
PIECE = 1_000
"""Characters of a log that arrive at once."""


class ScriptedRay:
    """A Ray with given logs and statuses of a job.

    :param logs: what consecutive readings of the log return, or the error that they raise; the last one is repeated.
    :param statuses: results of consecutive status checks; the last one is repeated.
    """

    def __init__(self, logs: Sequence[str | LocalAgentError], statuses: Sequence[str]) -> None:
        self.logs = list(logs)
        self.statuses = list(statuses)
        self.log_reads = asyncio.Semaphore(1)
        self.readings = 0

    async def get_job(self, job_id: str) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == "DOWN":
            raise RayUnavailableError("down")
        return {"submission_id": job_id, "status": status, "start_time": 1}

    async def log_text(self, job_id: str, *, is_whole: bool) -> AsyncGenerator[str, None]:
        self.readings += 1
        found = self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]
        if isinstance(found, LocalAgentError):
            raise found
        for start in range(0, len(found), PIECE):
            await asyncio.sleep(0)
            yield found[start : start + PIECE]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "READ_INTERVAL", 0.01)
    monkeypatch.setattr(follow, "KEEP_ALIVE_SECONDS", 0.005)


def logs_of(ray: ScriptedRay) -> JobLogs:
    return JobLogs(cast("RayDashboard", ray), asyncio.Semaphore(MAX_ACTIVE_READERS))


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)


async def events_of(follower: LogReader) -> list[Event | None]:
    """Return all events, with ``None`` for keep-alives, that a follower receives."""
    events: list[Event | None] = []
    async for block in follower.blocks():
        events += [None] if block is None else map(json.loads, messages(block))
    follower.close()
    return events


def followed(*logs: str | LocalAgentError, statuses: Sequence[str]) -> tuple[str, Event | None]:
    """Return the text that one follower receives, and the last event if it is of another kind."""

    async def play() -> list[Event | None]:
        opened = logs_of(ScriptedRay(logs, statuses))
        events = await events_of(await opened.follow("job"))
        await opened.close()
        return events

    events = [event for event in asyncio.run(play()) if event]
    last = events.pop() if events and events[-1]["type"] != "log" else None
    assert {event["type"] for event in events} <= {"log"}
    return text_of(events), last


def log(text: str) -> Event:
    return {"type": "log", "message": text}


def text_of(events: Sequence[Event | None]) -> str:
    return "".join(event["message"] for event in events if event and event["type"] == "log")


def test_the_log_of_a_job_that_has_ended_is_complete() -> None:
    assert followed("a\nb\n", statuses=["SUCCEEDED"]) == ("a\nb\n", COMPLETE)
    assert followed("", statuses=["STOPPED"]) == ("", COMPLETE)


@pytest.mark.parametrize(
    "logs", [["a\n", "a\nb", "a\nb\nc\n"], ["", "", "a\nb\nc\n"], ["a\nb\nc\n"]], ids=["grows", "late", "at once"]
)
def test_each_part_of_a_log_that_grows_is_sent_once(logs: list[str]) -> None:
    assert followed(*logs, statuses=["RUNNING"] * 4 + ["FAILED"]) == ("a\nb\nc\n", COMPLETE)


@pytest.mark.parametrize("other", ["other\n", "a", ""])
def test_a_rewritten_log_is_an_error(other: str) -> None:
    for statuses in (["RUNNING", "RUNNING", "SUCCEEDED"], ["RUNNING"]):
        text, last = followed("a\n", other, statuses=statuses)
        assert (text, last and last["type"]) == ("a\n", "error")


def test_a_log_that_cannot_be_read_after_the_end_is_an_error() -> None:
    fault = RayAnswerError("invalid start byte", 500)
    text, last = followed("a\n", fault, statuses=["RUNNING", "RUNNING", "SUCCEEDED"])
    assert text == "a\n"
    assert last
    assert (last["type"], "invalid start byte" in last["message"]) == ("error", True)


@pytest.mark.parametrize("fault", [RayAnswerError("busy", 500), RayUnavailableError("down")])
def test_a_failure_of_ray_while_the_job_runs_is_passed_over(fault: LocalAgentError) -> None:
    faults: list[str | LocalAgentError] = [fault] * (follow.MAX_FAILURES - 1)
    logs = ["a\n", *faults, "a\nb\n", *faults, "a\nb\nc\n"]
    assert followed(*logs, statuses=["RUNNING"] * 10 + ["SUCCEEDED"]) == ("a\nb\nc\n", COMPLETE)
    down = ["DOWN"] * (follow.MAX_FAILURES - 1)
    assert followed("a\n", statuses=["RUNNING", "RUNNING", *down, "SUCCEEDED"]) == ("a\n", COMPLETE)


@pytest.mark.parametrize("fault", [RayAnswerError("busy", 500), RayUnavailableError("down")])
def test_a_stream_ends_without_a_last_event_if_ray_fails_repeatedly(fault: LocalAgentError) -> None:
    assert followed("a\n", *[fault] * follow.MAX_FAILURES, "a\nb\n", statuses=["RUNNING"]) == ("a\n", None)
    assert followed("a\n", statuses=["RUNNING", "RUNNING", "DOWN"]) == ("a\n", None)


def test_a_silent_job_has_keep_alives() -> None:
    async def play() -> list[Event | None]:
        logs = logs_of(ScriptedRay(["a\n"], ["RUNNING"] * 10 + ["SUCCEEDED"]))
        return await events_of(await logs.follow("job"))

    assert None in asyncio.run(play())


def test_early_and_late_followers_share_the_readings() -> None:
    async def play() -> None:
        ray = ScriptedRay(["a\n"], ["RUNNING"])
        logs = logs_of(ray)
        early = [asyncio.ensure_future(events_of(await logs.follow("job"))) for _ in range(20)]
        await until(lambda: ray.readings >= 3)
        late = [asyncio.ensure_future(events_of(await logs.follow("job"))) for _ in range(20)]
        ray.logs.append("a\nb\nc\n")
        await until(lambda: len(ray.logs) == 1)
        before, ray.statuses = ray.readings, ["SUCCEEDED"]
        for events in await asyncio.gather(*early, *late):
            assert text_of(events) == "a\nb\nc\n"
            assert events[-1] == COMPLETE
        assert ray.readings - before <= 2

    asyncio.run(play())


def test_a_log_is_not_read_without_followers() -> None:
    async def play() -> None:
        ray = ScriptedRay(["x" * 1_000_000], ["RUNNING"])
        logs = logs_of(ray)
        follower = await logs.follow("job")
        async for _ in follower.blocks():
            break
        follower.close()
        await until(lambda: not logs._reading)
        before, ray.statuses = ray.readings, ["SUCCEEDED"]
        assert text_of(await events_of(await logs.follow("job"))) == "x" * 1_000_000
        assert ray.readings == before + 1

    asyncio.run(play())


def test_a_new_job_with_the_same_id_has_its_own_log() -> None:
    async def play() -> None:
        ray = ScriptedRay(["first\n"], ["SUCCEEDED"])
        logs = logs_of(ray)
        slow = await logs.follow("job")
        await until(lambda: not logs._reading)
        shared = await logs.follow("job")
        assert ray.readings == 1, "the job's log is shared while it has a follower"

        async def get_job(job_id: str) -> dict[str, Any]:
            return {"submission_id": job_id, "status": "SUCCEEDED", "start_time": 2}

        ray.get_job = get_job  # type: ignore[method-assign]
        ray.logs = ["second\n"]
        other = await logs.follow("job")
        assert [text_of(await events_of(each)) for each in (slow, shared, other)] == ["first\n", "first\n", "second\n"]

    asyncio.run(play())


def test_logs_and_streams_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_logs, "MAX_LOGS", 2)
    monkeypatch.setattr(job_logs, "MAX_FOLLOWERS", 4)

    async def play() -> None:
        ray = ScriptedRay(["a\n"], ["RUNNING"])
        logs = logs_of(ray)
        followers = [await logs.follow(job_id) for job_id in ("one", "two", "two")]
        with pytest.raises(TooManyError, match="open logs") as caught:
            await logs.follow("three")
        assert caught.value.status_code == 429
        followers.append(await logs.follow("one"))
        with pytest.raises(TooManyError, match="streams"):
            await logs.follow("one")
        with pytest.raises(TooManyError, match="streams"):
            logs.follow_ended({"submission_id": "ended", "status": "STOPPED"})
        for each in followers:
            each.close()
            each.close()
        await until(lambda: not logs._reading)
        ray.statuses = ["SUCCEEDED"]
        assert text_of(await events_of(await logs.follow("three"))) == "a\n"
        await logs.close()

    asyncio.run(play())


def test_log_ends_early_if_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert followed("a\n", statuses=["RUNNING"]) == ("", None)


def relayed(
    ray: ScriptedRay, send: Callable[[bytes | None], Awaitable[None]], *, end_after: float = 3600
) -> tuple[bool, JobLogs]:
    async def play() -> tuple[bool, JobLogs]:
        logs = logs_of(ray)
        follower = await logs.follow("job")
        ended = await relay(follower.blocks(), send, asyncio.sleep(end_after))
        follower.close()
        await logs.close()
        return ended, logs

    return asyncio.run(play())


def test_relay_returns_whether_all_blocks_were_sent() -> None:
    got: list[bytes] = []

    async def send(block: bytes | None) -> None:
        got.append(block or b"")

    async def fail(block: bytes | None) -> None:
        raise OSError

    assert relayed(ScriptedRay(["a\n"], ["SUCCEEDED"]), send)[0] is True
    assert [json.loads(each) for each in messages(b"".join(got))] == [log("a\n"), COMPLETE]
    assert relayed(ScriptedRay([""], ["RUNNING"]), send, end_after=0.2)[0] is False
    assert relayed(ScriptedRay(["a\n"], ["SUCCEEDED"]), fail)[0] is False


def test_client_that_does_not_read_does_not_block_others() -> None:
    async def play() -> None:
        ray = ScriptedRay(["x" * 1_000_000], ["SUCCEEDED"])
        logs = logs_of(ray)
        stuck, reads = await logs.follow("job"), await logs.follow("job")
        taken: list[bytes | None] = []

        async def take_one(block: bytes | None) -> None:
            taken.append(block)
            await asyncio.Event().wait()

        over = asyncio.Event()
        relaying = asyncio.ensure_future(relay(stuck.blocks(), take_one, over.wait()))
        assert text_of(await events_of(reads)) == "x" * 1_000_000
        assert len(taken) == 1
        over.set()
        assert await relaying is False

    asyncio.run(play())
