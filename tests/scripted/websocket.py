"""A WebSocket while a play performs it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tests.scripted import frames
from tests.scripted.exchange import Action, HttpExchange, Open, head, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CLOSE_PATIENCE = 2.0
"""Seconds that a closing handshake waits for the client's close frame."""


class WsExchange(HttpExchange):
    """A WebSocket, or what is sent instead of the upgrade."""

    stream = True
    alive = True
    """Whether pings and close frames of the client are answered."""

    deflated = False
    """Whether permessage-deflate was agreed on."""

    _closing = False

    def prepare(self, actions: Sequence[Action]) -> None:
        self._wants_deflate = any(getattr(action, "needs_deflate", False) for action in actions)

    async def begin(self, how: Open) -> None:
        self.how = how
        request = self.link.request
        asked = request.headers if request is not None else {}
        usual: dict[str, str | None] = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": how.accept or frames.accept_key(asked.get("sec-websocket-key", "")),
        }
        offered = frames.DEFLATE_OFFER in asked.get("sec-websocket-extensions", "")
        if offered and self._wants_deflate:
            self.deflated = True
            usual["Sec-WebSocket-Extensions"] = frames.DEFLATE_ACCEPTED
        self._opened(how.status or 101)
        self._frames = frames.ClientFrames()
        self.link.divert(self._receive)
        await self.wire(head(how.status or 101, merged(usual, how.headers)))

    async def body(self, data: bytes) -> None:
        await self.ready()
        await self.wire(data)

    def encode(self, message: bytes, opcode: int = frames.TEXT) -> bytes:
        return self._cut(message, opcode, 0)

    def encode_batch(self, messages: Iterable[bytes]) -> bytes:
        return b"".join(map(self.encode, messages))

    def compressed(self, message: bytes, opcode: int = frames.TEXT, *, force: bool = False) -> bytes:
        if self.deflated or force:
            return self._cut(frames.deflate(message), opcode, 4)
        return self._cut(message, opcode, 0)

    async def send_pieces(self, pieces: list[bytes], opcode: int = frames.TEXT) -> None:
        await self.ready()
        await self.wire(b"".join(frames.fragments(opcode, pieces)))
        self.count(1)

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        if not self.finished:
            await self.ready()
            self.finished = self._closing = self.link.ended_here = True
            await self.wire(frames.frame(frames.CLOSE, frames.close_payload(code, reason)))
            self.release()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.link.ended.wait(), CLOSE_PATIENCE)
        await self.link.close()

    async def finish(self) -> None:
        if not self.finished and not self.link.ended_here:
            await self.close()

    def _cut(self, message: bytes, opcode: int, rsv: int) -> bytes:
        size = self.how.cut
        if size is None or len(message) <= size:
            return frames.frame(opcode, message, rsv=rsv)
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        return b"".join(frames.fragments(opcode, pieces, rsv=rsv))

    def _receive(self, data: bytes) -> None:
        for opcode, payload in self._frames.feed(data):
            if not self.alive or not self.link.writable:
                continue
            if opcode == frames.PING:
                self.link.write(frames.frame(frames.PONG, payload))
            elif opcode == frames.CLOSE:
                if not self._closing:
                    self.link.write(frames.frame(frames.CLOSE, payload[:2]))
                    self.link.client_left()
                self.link.end_writing()
