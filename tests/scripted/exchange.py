"""One request and its answer while a play performs it: plain HTTP, SSE or a WebSocket."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from tests.scripted import frames

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.scripted.job import Job
    from tests.scripted.link import Link

BATCH = 64 * 1024
"""Bytes that a bulk of messages gathers before it writes."""


class Agent(Protocol):
    """What an action may know of the server it runs in, and do to it."""

    open_streams: Counter[str]

    def stream_opened(self, job_id: str) -> None: ...

    def stream_closed(self, job_id: str) -> None: ...

    async def go_down(self, seconds: float, others: Ending, but: Link | None = None) -> None: ...


Ending = Literal["reset", "drop", "restart"]
"""What happens to open connections: RST, FIN, or what a stopping uvicorn does (1012, clean SSE end)."""


class Action:
    """One step of a play."""

    async def run(self, x: Exchange) -> None:
        """Do the step.

        :raises GoneError: when it has to write to a connection that was ended.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Open(Action):
    """Begin the answer in a particular way; without it the first message begins it in the usual way.

    :param status: HTTP status; on a WebSocket only the upgrade's status line changes with it.
    :param headers: more headers, or other values for the usual ones; ``None`` leaves a header out.
    :param content_type: default ``text/event-stream`` for SSE, ``text/plain; charset=utf-8`` for the full text.
    :param framing: how an HTTP body ends: last chunk, or end of connection.
    :param length: send this Content-Length, whatever follows; ends with the connection.
    :param newline: SSE line end.
    :param bom: begin the SSE body with a byte order mark.
    :param space: a space after the colon of an SSE field.
    :param multiline: spread an SSE event over several ``data`` lines where its JSON may be broken.
    :param event: SSE ``event`` field of every message.
    :param ids: give every SSE message an ``id``.
    :param cut: cut every message into pieces of so many bytes: WebSocket frames, or HTTP chunks.
    :param accept: another ``Sec-WebSocket-Accept``.
    """

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    content_type: str | None = None
    framing: Literal["chunked", "close"] = "chunked"
    length: int | None = None
    newline: str = "\n"
    bom: bool = False
    space: bool = True
    multiline: bool = False
    event: str | None = None
    ids: bool = False
    cut: int | None = None
    accept: str | None = None

    async def run(self, x: Exchange) -> None:
        await x.begin(self)


def head(status: int, headers: Mapping[str, str | None]) -> bytes:
    """Return an HTTP response's head; headers that are ``None`` are left out."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def merged(usual: Mapping[str, str | None], own: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return ``usual`` headers with ``own`` in their place, whatever the case of the names."""
    names = {name.lower() for name in own}
    return {**{name: value for name, value in usual.items() if name.lower() not in names}, **own}


def batches(messages: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield messages in lists of about :data:`BATCH` bytes."""
    batch: list[bytes] = []
    size = 0
    for message in messages:
        batch.append(message)
        size += len(message) + 8
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Exchange:
    """The base: a stage without a connection, as a job's timeline has it."""

    stream: ClassVar[bool] = False
    """Whether the log comes in events, and not as mere text."""
    connected: ClassVar[bool] = False

    def __init__(self, agent: Agent, job: Job | None) -> None:
        self.agent = agent
        self._job = job
        self.how = Open()
        self.begun = False
        self.finished = False
        self.offset = 0
        self._counted = False

    @property
    def job(self) -> Job:
        """The job that the request or the timeline is about."""
        if self._job is None:
            raise LookupError("This action needs a job, and the request names none.")
        return self._job

    def is_about(self, job: Job) -> bool:
        """Tell whether the request names this job."""
        return self._job is job

    @property
    def link(self) -> Link:
        raise TypeError("This action needs a connection; a job's timeline has none.")

    async def begin(self, how: Open) -> None:
        raise TypeError("This action needs a connection; a job's timeline has none.")

    def prepare(self, actions: Sequence[Action]) -> None:
        """Look at the play before it begins, for what has to be known at the handshake."""

    def encode(self, message: bytes, opcode: int = frames.TEXT) -> bytes:
        """Return the wire bytes of one message."""
        raise TypeError("This action needs a connection; a job's timeline has none.")

    def encode_batch(self, messages: Iterable[bytes]) -> bytes:
        return b"".join(map(self.encode, messages))

    async def ready(self) -> None:
        """Begin in the usual way, unless it has begun."""
        if not self.begun:
            await self.begin(self.how)

    async def send(self, message: bytes, opcode: int = frames.TEXT) -> None:
        """Send one message."""
        await self.ready()
        await self.wire(self.encode(message, opcode))
        self.count(1)

    async def send_all(self, messages: Iterable[bytes]) -> None:
        """Send messages, written in batches, as fast as the client reads."""
        await self.ready()
        for batch in batches(messages):
            await self.wire(self.encode_batch(batch))
            self.count(len(batch))

    async def send_pieces(self, pieces: list[bytes], opcode: int = frames.TEXT) -> None:
        """Send one message in pieces: WebSocket frames, or HTTP chunks."""
        raise TypeError("This action needs a connection; a job's timeline has none.")

    def compressed(self, message: bytes, opcode: int = frames.TEXT, *, force: bool = False) -> bytes:
        """Return the wire bytes of one message, compressed where the stream can be."""
        return self.encode(message, opcode)

    async def wire(self, data: bytes) -> None:
        """Write bytes as they are, and wait while the client is slow."""
        self.link.write(data)
        await self.link.drain()

    async def body(self, data: bytes) -> None:
        """Write bytes of a body: in one HTTP chunk; on a WebSocket unframed."""
        await self.ready()
        await self.wire(data)

    async def answer(self, status: int, headers: Mapping[str, str | None], content: bytes) -> None:
        """Send a plain HTTP response instead of the stream."""
        self.begun = self.finished = True
        self._status(status)
        await self.wire(head(status, headers) + content)

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        """End the stream in an orderly way, and the connection."""
        await self.finish()
        await self.link.close()

    async def finish(self) -> None:
        """End the answer, if no action has."""

    def count(self, messages: int) -> None:
        """Count messages that were written."""
        if self.link.request is not None:
            self.link.request.messages += messages

    def release(self) -> None:
        """Count the stream as closed."""
        if self._counted:
            self._counted = False
            self.agent.stream_closed(self.job.job_id)

    def _opened(self, status: int) -> None:
        self.begun = True
        self._status(status)
        if self.stream and not self._counted:
            self._counted = True
            self.agent.stream_opened(self.job.job_id)

    def _status(self, status: int) -> None:
        if self.link.request is not None:
            self.link.request.status = status


class HttpExchange(Exchange):
    """A plain HTTP answer; its messages are text of the body."""

    connected = True
    content_type = "text/plain; charset=utf-8"

    def __init__(self, agent: Agent, job: Job | None, link: Link) -> None:
        super().__init__(agent, job)
        self._link = link

    @property
    def link(self) -> Link:
        return self._link

    @property
    def _chunked(self) -> bool:
        return self.how.framing == "chunked" and self.how.length is None

    async def begin(self, how: Open) -> None:
        self.how = how
        usual: dict[str, str | None] = {"Content-Type": how.content_type or self.content_type}
        if how.length is not None:
            usual["Content-Length"] = str(how.length)
        elif self._chunked:
            usual["Transfer-Encoding"] = "chunked"
        if not self._chunked:
            usual["Connection"] = "close"
        self._opened(how.status or 200)
        await self.wire(head(how.status or 200, merged(usual, how.headers)))

    async def body(self, data: bytes) -> None:
        await self.ready()
        await self.wire(self._framed([data]))

    def encode(self, message: bytes, opcode: int = frames.TEXT) -> bytes:
        return self.encode_batch([message])

    def encode_batch(self, messages: Iterable[bytes]) -> bytes:
        data = b"".join(map(self._text, messages))
        if self.how.cut is None:
            return self._framed([data])
        size = self.how.cut
        return self._framed([data[at : at + size] for at in range(0, len(data), size)])

    async def send_pieces(self, pieces: list[bytes], opcode: int = frames.TEXT) -> None:
        await self.ready()
        data = self._text(b"".join(pieces))
        before = data.find(b"".join(pieces))
        ends = [before]
        for piece in pieces:
            ends.append(ends[-1] + len(piece))
        cuts = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
        await self.wire(self._framed(cuts))
        self.count(1)

    async def finish(self) -> None:
        if self.finished:
            return
        await self.ready()
        self.finished = True
        if self._chunked:
            await self.wire(b"0\r\n\r\n")
        else:
            await self.link.close()

    def _text(self, message: bytes) -> bytes:
        return message

    def _framed(self, pieces: Iterable[bytes]) -> bytes:
        if not self._chunked:
            return b"".join(pieces)
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)


class SseExchange(HttpExchange):
    """A server-sent event stream."""

    stream = True
    content_type = "text/event-stream; charset=utf-8"
    _ids = 0

    async def begin(self, how: Open) -> None:
        await super().begin(how)
        if how.bom:
            await self.body(b"\xef\xbb\xbf")

    def field(self, name: str, value: bytes) -> bytes:
        """Return one line of the stream; an empty name gives a comment."""
        end = self.how.newline.encode()
        return name.encode() + (b": " if self.how.space else b":") + value + end

    def _text(self, message: bytes) -> bytes:
        how = self.how
        if how.newline == "\n" and how.space and not (how.multiline or how.event or how.ids or b"\n" in message):
            return b"data: %b\n\n" % message
        lines = b""
        if how.event is not None:
            lines += self.field("event", how.event.encode())
        if how.ids:
            self._ids += 1
            lines += self.field("id", b"%d" % self._ids)
        if how.multiline and message.startswith(b'{"type": "'):
            message = message.replace(b", ", b",\n", 1)
        for line in message.split(b"\n"):
            lines += self.field("data", line)
        return lines + how.newline.encode()
