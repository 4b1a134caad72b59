"""The steps of a play that send something: messages well framed or badly, and raw bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

from tests.scripted import frames
from tests.scripted.chunks import byte_cuts
from tests.scripted.exchange import Action, Exchange, SseExchange, batches
from tests.scripted.websocket import WsExchange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def dumps(value: object, *, ascii: bool = True) -> bytes:  # noqa: A002
    """Return JSON; lone surrogates are kept, as escapes or as they are."""
    return json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass")


def as_bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def payload_of(message: str | bytes | Message, x: Exchange) -> bytes:
    return message.payload(x) if isinstance(message, Message) else as_bytes(message)


def log_payload(text: str) -> bytes:
    """Return the JSON of a ``log`` event, with everything beyond ASCII as escapes."""
    return b'{"type": "log", "message": %b}' % encode_basestring_ascii(text).encode()


class Message(Action):
    """An action that sends one message."""

    def payload(self, x: Exchange) -> bytes:
        """Return the message's bytes before any framing."""
        raise NotImplementedError

    async def run(self, x: Exchange) -> None:
        await x.send(self.payload(x))


@dataclass(frozen=True)
class Log(Message):
    """A ``log`` event; on a plain route its text alone.

    :param ascii: escape everything beyond ASCII; without, the text is sent as UTF-8 (lone surrogates too).
    """

    text: str
    ascii: bool = True

    def payload(self, x: Exchange) -> bytes:
        if not x.stream:
            return self.text.encode("utf-8", "surrogatepass")
        if self.ascii:
            return log_payload(self.text)
        return dumps({"type": "log", "message": self.text}, ascii=False)


@dataclass(frozen=True)
class Event(Message):
    """Any JSON value as a message."""

    value: Any

    def payload(self, x: Exchange) -> bytes:
        return dumps(self.value)


@dataclass(frozen=True)
class Text(Message):
    """A message that need not be JSON; as bytes it need not be UTF-8 either."""

    text: str | bytes

    def payload(self, x: Exchange) -> bytes:
        return as_bytes(self.text)


class Complete(Event):
    """The ``complete`` event."""

    def __init__(self) -> None:
        super().__init__({"type": "complete"})


class ErrorEvent(Event):
    """An ``error`` event."""

    def __init__(self, message: str = "Failed to stream logs") -> None:
        super().__init__({"type": "error", "message": message})


@dataclass(frozen=True)
class Binary(Action):
    """A message in a binary frame; over HTTP no different from others."""

    message: str | bytes | Message

    async def run(self, x: Exchange) -> None:
        await x.send(payload_of(self.message, x), frames.BINARY)


@dataclass(frozen=True)
class Fragmented(Action):
    """One message in several frames, or in several HTTP chunks.

    :param message: the message, or its pieces.
    :param size: bytes a piece, where the message is given whole.
    """

    message: str | bytes | Message | Sequence[str | bytes]
    size: int = 1

    async def run(self, x: Exchange) -> None:
        if isinstance(self.message, (str, bytes, Message)):
            pieces = byte_cuts(payload_of(self.message, x), self.size)
        else:
            pieces = [as_bytes(piece) for piece in self.message]
        await x.send_pieces(pieces)


@dataclass(frozen=True)
class Compressed(Action):
    """A message with permessage-deflate, which the handshake then accepts from a client that offers it.

    :param force: compress though it was not agreed on, which is an error of the server's.
    """

    message: str | bytes | Message
    force: bool = False
    needs_deflate = True

    async def run(self, x: Exchange) -> None:
        await x.ready()
        await x.wire(x.compressed(payload_of(self.message, x), force=self.force))
        x.count(1)


@dataclass(frozen=True)
class Partial(Action):
    """The first bytes of a message's frame or chunk, and no more of it.

    :param keep: how many bytes; negative: all but so many.
    """

    message: str | bytes | Message
    keep: int = -1

    async def run(self, x: Exchange) -> None:
        await x.ready()
        await x.wire(x.encode(payload_of(self.message, x))[: self.keep])


class Bulk(Action):
    """Many ``log`` events as fast as the client reads; encoded once for all connections of one kind."""

    def __init__(self, messages: Iterable[str]) -> None:
        self._messages = list(map(log_payload, messages))
        self._encoded: dict[tuple[type[Exchange], str], list[bytes]] = {}

    async def run(self, x: Exchange) -> None:
        await x.ready()
        key = type(x), repr(x.how)
        if key not in self._encoded:
            self._encoded[key] = [x.encode_batch(batch) for batch in batches(self._messages)]
        for block in self._encoded[key]:
            await x.wire(block)
        x.count(len(self._messages))


@dataclass(frozen=True)
class Raw(Action):
    """Bytes of the body in an HTTP chunk of their own; on a WebSocket unframed bytes."""

    data: bytes | str

    async def run(self, x: Exchange) -> None:
        await x.body(as_bytes(self.data))


@dataclass(frozen=True)
class Wire(Action):
    """Bytes on the connection as they are, before or after the head."""

    data: bytes | str

    async def run(self, x: Exchange) -> None:
        if not x.begun:
            x.begun = x.finished = True
        await x.wire(as_bytes(self.data))


@dataclass(frozen=True)
class Frame(Action):
    """Any WebSocket frame, right or wrong."""

    opcode: int
    payload: bytes = b""

    async def run(self, x: Exchange) -> None:
        await x.body(frames.frame(self.opcode, self.payload))


@dataclass(frozen=True)
class Sse(Action):
    """An SSE event with one ``data`` field a line.

    :param end: end the event with its blank line.
    """

    data: str | bytes
    end: bool = True

    async def run(self, x: Exchange) -> None:
        await x.ready()
        if not isinstance(x, SseExchange):
            raise TypeError("Sse plays on an SSE stream only.")
        body = b"".join(x.field("data", line) for line in as_bytes(self.data).split(b"\n"))
        await x.body(body + (x.how.newline.encode() if self.end else b""))


@dataclass(frozen=True)
class Ping(Action):
    """A WebSocket ping; over SSE a comment."""

    payload: bytes = b"ping"

    async def run(self, x: Exchange) -> None:
        await x.ready()
        if isinstance(x, WsExchange):
            await x.wire(frames.frame(frames.PING, self.payload))
        elif isinstance(x, SseExchange):
            await x.body(x.field("", self.payload) + x.how.newline.encode())
