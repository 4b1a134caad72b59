"""Live logs and their end, with a scripted Ray."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from websockets.exceptions import ConnectionClosedOK

from airflow_provider_rayagent.local import job_logs, tail_text
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError, TooManyError
from airflow_provider_rayagent.local.job_logs import JobLogs
from airflow_provider_rayagent.local.log_responses import relay
from airflow_provider_rayagent.local.spool import MAX_ACTIVE_READERS
from airflow_provider_rayagent.local.sse_encoding import messages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from airflow_provider_rayagent.local.job_logs import LogReader
    from airflow_provider_rayagent.local.ray_api import RayDashboard

Event = dict[str, str]
COMPLETE = {"type": "complete"}


class ScriptedRay:
    """A Ray with a given tail, statuses and whole log.

    :param tail: chunks; ``None``: endless silence.
    :param statuses: results of consecutive status checks; the last one is repeated.
    :param whole: chunks of the whole log, or the error to raise.
    """

    def __init__(
        self, tail: Sequence[str | None], statuses: Sequence[str], whole: str | Sequence[str] | LocalAgentError = ""
    ) -> None:
        self.tail = list(tail)
        self.statuses = list(statuses)
        self._whole = [whole] if isinstance(whole, str) else whole
        self.log_reads = asyncio.Semaphore(1)
        self.tails_open = self.tails_opened = self.whole_logs = 0

    @contextlib.asynccontextmanager
    async def tail_job_logs(self, job_id: str) -> AsyncIterator[ScriptedRay]:
        self.tails_open += 1
        self.tails_opened += 1
        try:
            yield self
        finally:
            self.tails_open -= 1

    async def recv(self) -> str:
        if not self.tail:
            raise ConnectionClosedOK(None, None)
        if self.tail[0] is None:
            await asyncio.Event().wait()
        return cast("str", self.tail.pop(0))

    async def get_job(self, job_id: str) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == "DOWN":
            raise RayUnavailableError("down")
        return {"submission_id": job_id, "status": status, "start_time": 1}

    async def log_text(self, job_id: str) -> AsyncGenerator[str, None]:
        self.whole_logs += 1
        if isinstance(self._whole, LocalAgentError):
            raise self._whole
        for piece in self._whole:
            await asyncio.sleep(0)
            yield piece


def logs_of(ray: ScriptedRay, quiet: float = 0.05) -> JobLogs:
    return JobLogs(cast("RayDashboard", ray), asyncio.Semaphore(MAX_ACTIVE_READERS), quiet)


async def events_of(follower: LogReader) -> list[Event | None]:
    """Return all events, with ``None`` for keep-alives, that a follower receives."""
    events: list[Event | None] = []
    async for block in follower.blocks():
        events += [None] if block is None else map(json.loads, messages(block))
    follower.close()
    return events


def followed(ray: ScriptedRay) -> list[Event | None]:
    """Return the events that one follower receives."""

    async def play() -> list[Event | None]:
        logs = logs_of(ray)
        events = await events_of(await logs.follow("job"))
        await logs.close()
        return events

    return asyncio.run(play())


def log(text: str) -> Event:
    return {"type": "log", "message": text}


def text_of(events: list[Event | None]) -> str:
    return "".join(event["message"] for event in events if event and event["type"] == "log")


def test_log_of_ended_job_is_complete_without_tail() -> None:
    ray = ScriptedRay(["other\n"], ["SUCCEEDED"], ["a\n", "b\n"])

    assert followed(ray) == [log("a\nb\n"), COMPLETE]
    assert (ray.tails_opened, ray.whole_logs) == (0, 1)


def test_log_is_complete_if_job_ends_while_followed() -> None:
    assert followed(ScriptedRay(["a\n", "b\n"], ["RUNNING", "SUCCEEDED"], "a\nb\n")) == [
        log("a\n"),
        log("b\n"),
        COMPLETE,
    ]


def test_log_is_not_complete_if_tail_closes_while_job_is_running() -> None:
    assert followed(ScriptedRay(["a\n"], ["RUNNING"], "a\n")) == [log("a\n")]


def test_lines_missing_from_tail_are_sent_before_complete() -> None:
    assert followed(ScriptedRay(["a\n"], ["RUNNING", "FAILED"], ["a", "\nb", "\n"])) == [
        log("a\n"),
        log("b\n"),
        COMPLETE,
    ]


@pytest.mark.parametrize(
    ("tail", "whole", "reads"),
    [
        (["50%\n", "\n", "done\n"], "50%\ndone\n", 1),
        (["50%\n", "\ndone\n"], "50%\ndone\nlast\n", 1),
        (["50%\n", "\n\n"], "50%\n\n", 1),
        (["50%\n", "\n", "\ndone\n"], "50%\n\ndone\n", 2),
        (["a\n", "\n", "\n\n", "\nb\n"], "a\n\n\n\n\nb\n", 1),
        (["a", "\n", "b\n", "\n"], "a\nb\n", 1),
        (["a\n", "", "\n", "b\n"], "a\nb\n", 1),
        (["a", "\n\n", "b\n", "c\n"], "a\n\nb\nc\n", 0),
    ],
)
def test_newline_that_was_read_in_two_parts_is_one(tail: list[str], whole: str, reads: int) -> None:
    """Ray's tail reads a carriage return, and then the newline after it, as a newline each."""
    ray = ScriptedRay(tail, ["RUNNING", "SUCCEEDED"], list(whole))

    events = followed(ray)
    assert text_of(events) == whole
    assert events[-1] == COMPLETE
    assert ray.whole_logs == reads + 1


def test_log_of_many_blank_lines_is_read_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_text, "MAX_KNOWN", 500)
    ray = ScriptedRay(["\nline\n"] * 1_000, ["RUNNING", "SUCCEEDED"], ["\nline\n"] * 1_000)

    assert text_of(followed(ray)) == "\nline\n" * 1_000
    assert ray.whole_logs <= 6_000 // 500 + 2


def test_rewritten_log_is_an_error() -> None:
    for whole in ("other\n", "a", ""):
        first, last = followed(ScriptedRay(["a\n"], ["RUNNING", "SUCCEEDED"], whole))
        assert (first, last and last["type"]) == (log("a\n"), "error")


def test_unreadable_whole_log_is_an_error() -> None:
    fault = RayAnswerError("invalid start byte", 500)
    first, last = followed(ScriptedRay(["a\n"], ["RUNNING", "SUCCEEDED"], fault))

    assert first == log("a\n")
    assert last
    assert last["type"] == "error"
    assert "invalid start byte" in last["message"]


def test_stream_ends_without_final_event_if_ray_is_unavailable() -> None:
    ray = ScriptedRay(["a\n"], ["RUNNING", "SUCCEEDED"], RayUnavailableError("down"))

    assert followed(ray) == [log("a\n")]


def test_log_of_job_without_output_is_complete() -> None:
    assert followed(ScriptedRay([], ["STOPPED"])) == [COMPLETE]


def test_silent_tail_is_closed_after_job_has_ended() -> None:
    ray = ScriptedRay(["a\n", None], ["RUNNING", "RUNNING", "SUCCEEDED"], "a\nb\n")

    events = followed(ray)
    assert [event for event in events if event] == [log("a\n"), log("b\n"), COMPLETE]
    assert None in events, "there were keep-alives"
    assert ray.tails_open == 0


def test_silent_tail_survives_temporary_failures_of_ray_only() -> None:
    comes_back = ScriptedRay(["a\n", None], ["RUNNING", *["DOWN"] * 3, "RUNNING", *["DOWN"] * 3, "SUCCEEDED"], "a\n")
    assert followed(comes_back)[-1] == COMPLETE
    assert comes_back.tails_opened == 1

    ray = ScriptedRay(["a\n", None], ["RUNNING", "DOWN"])
    assert [event for event in followed(ray) if event] == [log("a\n")]
    assert ray.tails_open == 0


def test_early_and_late_followers_share_one_tail() -> None:
    async def play() -> None:
        ray = ScriptedRay(["a\n", None, "b\n"], ["RUNNING"], "a\nb\nc\n")
        logs = logs_of(ray)
        early = [asyncio.ensure_future(events_of(await logs.follow("job"))) for _ in range(20)]
        await asyncio.sleep(0.05)
        late = [asyncio.ensure_future(events_of(await logs.follow("job"))) for _ in range(20)]
        ray.statuses = ["SUCCEEDED"]
        ray.tail.remove(None)
        for events in await asyncio.gather(*early, *late):
            assert text_of(events) == "a\nb\nc\n"
            assert events[-1] == COMPLETE
        assert (ray.tails_opened, ray.whole_logs) == (1, 1)

    asyncio.run(play())


def test_tail_stays_open_without_followers_and_is_reused() -> None:
    async def play() -> None:
        ray = ScriptedRay(["a\n", None, "b\n"], ["RUNNING"], "a\nb\n")
        logs = logs_of(ray)
        for _ in range(10):
            follower = await logs.follow("job")
            async for block in follower.blocks():
                if block:
                    break
            follower.close()
        assert (ray.tails_opened, ray.tails_open) == (1, 1)
        ray.statuses = ["SUCCEEDED"]
        again = await logs.follow("job")
        ray.tail.remove(None)
        assert text_of(await events_of(again)) == "a\nb\n"
        assert (ray.tails_opened, ray.tails_open, ray.whole_logs) == (1, 0, 1)

    asyncio.run(play())


def test_whole_log_is_not_read_without_followers() -> None:
    async def play() -> None:
        ray = ScriptedRay([], ["SUCCEEDED"], ["x" * 1000] * 1000)
        logs = logs_of(ray)
        follower = await logs.follow("job")
        async for _ in follower.blocks():
            break
        follower.close()
        await asyncio.sleep(0.05)
        again = await events_of(await logs.follow("job"))
        assert text_of(again) == "x" * 1_000_000
        assert ray.whole_logs == 2

    asyncio.run(play())


def test_new_job_with_same_id_has_its_own_log() -> None:
    async def play() -> None:
        ray = ScriptedRay([], ["SUCCEEDED"], "first\n")
        logs = logs_of(ray)
        slow = await logs.follow("job")
        await asyncio.sleep(0.05)
        shared = await logs.follow("job")
        assert ray.whole_logs == 1, "the job's log is shared while it has a follower"

        async def get_job(job_id: str) -> dict[str, Any]:
            return {"submission_id": job_id, "status": "SUCCEEDED", "start_time": 2}

        ray.get_job = get_job  # type: ignore[method-assign]
        ray._whole = ["second\n"]
        other = await logs.follow("job")
        assert [text_of(await events_of(each)) for each in (slow, shared, other)] == ["first\n", "first\n", "second\n"]

    asyncio.run(play())


def test_tails_and_streams_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_logs, "MAX_TAILS", 2)
    monkeypatch.setattr(job_logs, "MAX_FOLLOWERS", 4)

    async def play() -> None:
        ray = ScriptedRay([None], ["RUNNING"])
        logs = logs_of(ray)
        followers = [await logs.follow(job_id) for job_id in ("one", "two", "two")]
        with pytest.raises(TooManyError, match="live logs") as caught:
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
        ray.statuses = ["SUCCEEDED"]
        assert await events_of(await logs.follow("ended")) == [COMPLETE]
        ray.statuses = ["RUNNING"]
        with pytest.raises(TooManyError, match="live logs"):
            await logs.follow("three")
        assert ray.tails_opened == ray.tails_open == 2
        await logs.close()
        assert ray.tails_open == 0

    asyncio.run(play())


def test_abandoned_tails_of_a_job_are_limited() -> None:
    async def play() -> None:
        ray = ScriptedRay([None], ["RUNNING", "DOWN"])
        logs = logs_of(ray, quiet=0.01)
        for _ in range(job_logs.MAX_ABANDONED_TAILS):
            ray.statuses = ["RUNNING", "DOWN"]
            assert not any(await events_of(await logs.follow("job")))
        ray.statuses = ["RUNNING"]
        with pytest.raises(TooManyError):
            await logs.follow("job")
        other = await logs.follow("other")
        other.close()
        await asyncio.sleep(0.01)
        assert ray.tails_opened == job_logs.MAX_ABANDONED_TAILS + 1
        await logs.close()

    asyncio.run(play())


def test_log_ends_early_if_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert followed(ScriptedRay(["a\n"], ["RUNNING"])) == []


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

    assert relayed(ScriptedRay([], ["SUCCEEDED"], "a\n"), send)[0] is True
    assert [json.loads(each) for each in messages(b"".join(got))] == [log("a\n"), COMPLETE]
    assert relayed(ScriptedRay([None], ["RUNNING"]), send, end_after=0.2)[0] is False
    assert relayed(ScriptedRay([], ["SUCCEEDED"], "a\n"), fail)[0] is False


def test_client_that_does_not_read_does_not_block_others() -> None:
    async def play() -> None:
        ray = ScriptedRay(["x" * 1000] * 1000, ["RUNNING"])
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
