"""A job's live log as the agent's events, with ``complete`` only where it is true.

Ray's own tail ends in the same way when the job has ended and when it could not read on, so its end says nothing:
the job's status is asked, and what was sent is compared with the whole log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.agent.wire import JobStatus
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from airflow_provider_rayagent.local.ray_api import RayDashboard

QUIET = 15.0
"""Seconds without a line after which the client is told that the stream is alive, and the job is looked at."""
MAX_EVENT = 10_000
"""Longest event in characters: the agent's client drops longer ones (over 10,240) without a word."""

Event = dict[str, str]
COMPLETE: Event = {"type": "complete"}


class Sent:
    """What was sent of a log: how much, and a digest to tell whether it is how the log begins."""

    def __init__(self) -> None:
        self.characters = 0
        self._digest = hashlib.sha256()

    def add(self, text: str) -> None:
        """Note that ``text`` was sent."""
        self.characters += len(text)
        self._digest.update(text.encode("utf-8", "surrogatepass"))

    def rest_of(self, whole: str) -> str | None:
        """Return what of ``whole`` was not sent, or ``None`` if ``whole`` does not begin with what was sent."""
        begin = whole[: self.characters].encode("utf-8", "surrogatepass")
        if len(whole) < self.characters or hashlib.sha256(begin).digest() != self._digest.digest():
            return None
        return whole[self.characters :]


def log_events(text: str, limit: int = MAX_EVENT) -> list[Event]:
    """Return ``text`` as ``log`` events of at most ``limit`` characters of JSON, cut after a newline where possible."""
    events: list[Event] = []
    pending = [text]
    while pending:
        part = pending.pop()
        if len(part) < 2 or len(as_json({"type": "log", "message": part})) <= limit:
            if part:
                events.append({"type": "log", "message": part})
            continue
        middle = len(part) // 2
        cut = part.rfind("\n", 0, middle) + 1 or part.find("\n", middle, -1) + 1 or middle
        pending += [part[cut:], part[:cut]]
    return events


def as_json(event: Event, *, ascii_only: bool = False) -> str:
    """Return an event as one line of JSON."""
    return json.dumps(event, ensure_ascii=ascii_only)


def has_ended(job: dict[str, Any]) -> bool:
    """Whether a job's status is terminal."""
    return job.get("status") in [status.value for status in JobStatus if status.is_terminal]


async def follow(ray: RayDashboard, job_id: str, quiet: float = QUIET) -> AsyncGenerator[Event | None, None]:
    """Yield a job's log from its first byte as ``log`` events, and ``complete`` once the job has ended and all is sent.

    It ends without ``complete`` where Ray's tail ended early; a client that opens it again begins anew. An ``error``
    event says that the log of a job that has ended cannot be had whole.

    :param quiet: yield ``None`` after so many seconds without a line.
    :raises LocalAgentError: if Ray cannot be asked.
    """
    from websockets.exceptions import ConnectionClosed

    sent = Sent()
    ended_looks = 0
    async with ray.tail_job_logs(job_id) as tail:
        # Ray's tail notices the end within seconds; if it is as silent as before a whole spell later, it is stuck.
        while ended_looks < 2:
            try:
                message = await asyncio.wait_for(tail.recv(), quiet)
            except asyncio.TimeoutError:
                ended_looks += has_ended(await ray.get_job(job_id))
                yield None
                continue
            except ConnectionClosed:
                break
            text = message if isinstance(message, str) else message.decode("utf-8", "replace")
            sent.add(text)
            for event in log_events(text):
                yield event
    if has_ended(await ray.get_job(job_id)):
        for event in await _ending(ray, job_id, sent):
            yield event


async def _ending(ray: RayDashboard, job_id: str, sent: Sent) -> list[Event]:
    try:
        whole = await ray.get_job_logs(job_id)
    except RayAnswerError as error:
        return [{"type": "error", "message": f"Ray cannot give the whole log of this job: {error}"}]
    rest = await asyncio.to_thread(sent.rest_of, whole)
    if rest is None:
        return [{"type": "error", "message": "The job's log was rewritten while it was followed."}]
    return [*log_events(rest), COMPLETE]


async def relay(
    events: AsyncGenerator[Event | None, None],
    send: Callable[[Event | None], Awaitable[None]],
    *ends: Awaitable[Any],
) -> bool:
    """Send events one by one until they are over or one of ``ends`` is; close the tail behind them in any case.

    :return: whether ``complete`` was sent.
    """
    complete = False

    async def pump() -> None:
        nonlocal complete
        async with aclosing(events):
            async for event in events:
                await send(event)
                complete = event == COMPLETE

    pumping = asyncio.ensure_future(pump())
    tasks = {pumping, *(asyncio.ensure_future(end) for end in ends)}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, (LocalAgentError, OSError)):
            raise result
    return complete
