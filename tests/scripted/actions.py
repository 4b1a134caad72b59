"""The steps of a play that take time, end it, or change the job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.scripted.chunks import Chunker, like_ray
from tests.scripted.exchange import Action, Ending, Exchange
from tests.scripted.link import Request
from tests.scripted.messages import Log, dumps
from tests.scripted.websocket import WsExchange

if TYPE_CHECKING:
    from tests.scripted.job import Job

TICK = 0.003
"""Seconds between two looks at something that cannot wake the event loop."""


class Play:
    """The actions of one connection or request. What it leaves open is ended well: 1000, or the last chunk."""

    def __init__(self, *actions: Action) -> None:
        self.actions = actions

    def __repr__(self) -> str:
        return f"Play{self.actions!r}"


@dataclass(frozen=True)
class Default:
    """Stands for: what an agent without faults does."""


DEFAULT = Default()

Step = Action | Play | Default | Callable[[Request], Action | Play | Default]
"""What meets one request: a play, a single action, the default, or a choice made from the request."""


@dataclass(frozen=True)
class Follow(Action):
    """The job's log from where this connection is, as it grows, until the job is over or its log rewritten.

    :param chunker: how what is there is cut into messages.
    :param start: character to begin at; ``"now"``: at the end of what is there; default: go on.
    :param stop: end before this character; negative: so many before the end of what is there then.
    :param ascii: as for :class:`Log`.
    """

    chunker: Chunker = like_ray
    start: int | Literal["now"] | None = None
    stop: int | None = None
    ascii: bool = True

    async def run(self, x: Exchange) -> None:
        await x.ready()
        job, stop = x.job, self.stop
        if self.start == "now":
            x.offset = _length(job)
        elif self.start is not None:
            x.offset = self.start
        if stop is not None and stop < 0:
            stop += _length(job)
        edition = job.rewritten
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        end = job.subscribe(lambda: loop.call_soon_threadsafe(changed.set))
        try:
            while job.rewritten == edition and (stop is None or x.offset < stop):
                changed.clear()
                over = job.is_over
                await x.send_all(self._messages(x, stop))
                if changed.is_set():
                    continue
                if over:
                    return
                await changed.wait()
        finally:
            end()

    def _messages(self, x: Exchange, stop: int | None) -> Iterable[bytes]:
        for available in x.job.read(x.offset):
            text = available if stop is None else available[: max(stop - x.offset, 0)]
            for chunk in self.chunker(text):
                yield Log(chunk, ascii=self.ascii).payload(x)
            x.offset += len(text)


@dataclass(frozen=True)
class FullText(Action):
    """The job's text so far, as the body of a plain answer.

    :param as_json: as one JSON string.
    :param stop: end before this character; negative: so many before the end.
    :param last: only so many lines at its end; ``None``: all.
    """

    as_json: bool = False
    stop: int | None = None
    last: int | None = None

    async def run(self, x: Exchange) -> None:
        await x.ready()
        if self.as_json:
            await x.body(dumps(x.job.truth()[: self.stop]))
            return
        pieces: Iterable[str] = x.job.read(0)
        if self.stop is not None or self.last is not None:
            # Not splitlines(), which splits at more than newlines.
            lines = x.job.truth().split("\n")
            first = max(len(lines) - 1 - (self.last or len(lines)) + bool(lines[-1]), 0)
            pieces = ["\n".join(lines[first:])[: self.stop]]
        for piece in pieces:
            for at in range(0, len(piece), 1 << 16):
                await x.send(piece[at : at + (1 << 16)].encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Close(Action):
    """A close frame, the client's answer to it (2 s at most), the connection's end; over HTTP the body's end.

    :param code: any number; ``None``: a frame without a code.
    """

    code: int | None = 1000
    reason: str = ""

    async def run(self, x: Exchange) -> None:
        await x.close(self.code, self.reason)


class Drop(Action):
    """A FIN, without a close frame or a last chunk."""

    async def run(self, x: Exchange) -> None:
        await x.link.close()


class Reset(Action):
    """An RST, after what was written has reached the client's kernel."""

    async def run(self, x: Exchange) -> None:
        await x.link.reset()


@dataclass(frozen=True)
class Hold(Action):
    """Say nothing for so long (``None``: until the client goes), but answer pings: a quiet, healthy stream."""

    seconds: float | None = None

    async def run(self, x: Exchange) -> None:
        await x.ready()
        await _pause(self.seconds)


@dataclass(frozen=True)
class Silence(Action):
    """Say nothing at all, to pings neither, and begin no answer: a half-open peer."""

    seconds: float | None = None

    async def run(self, x: Exchange) -> None:
        if isinstance(x, WsExchange):
            x.alive = False
        await _pause(self.seconds)
        if isinstance(x, WsExchange):
            x.alive = True


@dataclass(frozen=True)
class Repeat(Action):
    """Send the same raw bytes again and again until the client goes.

    :param seconds: between two of them: shorter than a client's timeout between two reads.
    """

    data: bytes
    seconds: float = 0.02

    async def run(self, x: Exchange) -> None:
        while True:
            await x.wire(self.data)
            await asyncio.sleep(self.seconds)


class StopReading(Action):
    """Stop reading what the client sends; its sends block once the kernels' buffers are full."""

    async def run(self, x: Exchange) -> None:
        await x.ready()
        x.link.transport.pause_reading()


@dataclass(frozen=True)
class Sleep(Action):
    """Wait."""

    seconds: float

    async def run(self, x: Exchange) -> None:
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class WaitFor(Action):
    """Wait for an event of the test's, or until a function of the test's returns true."""

    what: threading.Event | Callable[[], object]

    async def run(self, x: Exchange) -> None:
        done = self.what.is_set if isinstance(self.what, threading.Event) else self.what
        await reached(done)


class WaitForStream(Action):
    """Wait until a client reads the job's log as a stream."""

    async def run(self, x: Exchange) -> None:
        await reached(lambda: x.agent.open_streams[x.job.job_id])


@dataclass(frozen=True)
class Do(Action):
    """Call a function of the test's, in the server's thread: ``Do(event.set)``."""

    function: Callable[[], object]

    async def run(self, x: Exchange) -> None:
        self.function()


@dataclass(frozen=True)
class SetStatus(Action):
    """Change the job's status."""

    status: str
    message: str | None = None

    async def run(self, x: Exchange) -> None:
        x.job.set_status(self.status, self.message)


@dataclass(frozen=True)
class Grow(Action):
    """Write to the job's log."""

    text: str

    async def run(self, x: Exchange) -> None:
        x.job.grow(self.text)


@dataclass(frozen=True)
class Rewrite(Action):
    """Put another text in the log's place."""

    text: str

    async def run(self, x: Exchange) -> None:
        x.job.rewrite(self.text)


@dataclass(frozen=True)
class Down(Action):
    """Refuse connections for so long; the port stays the same.

    :param others: what happens to the connections that are open, this one included.
    """

    seconds: float
    others: Ending = "reset"

    async def run(self, x: Exchange) -> None:
        link = x.link if x.connected else None
        await x.agent.go_down(self.seconds, self.others, but=link)


async def reached(done: Callable[[], object], tick: float = TICK) -> None:
    """Wait until ``done()`` is true."""
    while True:
        if done():
            return
        await asyncio.sleep(tick)


def _length(job: Job) -> int:
    return sum(map(len, job.read(0)))


async def _pause(seconds: float | None) -> None:
    if seconds is None:
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(seconds)
