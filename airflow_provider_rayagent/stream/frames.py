"""The client side of WebSocket (RFC 6455): handshake headers, and the frames of ``websocket-client``. Pure.

Why not its connection too: both transports open a WebSocket like any other request, so that proxies, CAs, redirects
and rejected handshakes are handled in one place. ``websocket.WebSocket.connect`` (1.8 to 1.9.2) cannot use a proxy
that forwards requests, reads the whole body of a rejected handshake, and keeps the cookies of one connection for all
later ones to the same host.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import websocket
from websocket import ABNF

from airflow_provider_rayagent.stream.events import MAX_MESSAGE_BYTES, TOO_LONG

CLOSE, PING, PONG = ABNF.OPCODE_CLOSE, ABNF.OPCODE_PING, ABNF.OPCODE_PONG
NORMAL_CLOSURE = websocket.STATUS_NORMAL.to_bytes(2, "big")
"""Payload of a close frame (section 7.4.1)."""
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTROL = 0x8
_MAX_CONTROL_BYTES = 125


def upgrade_headers(key: str) -> dict[str, str]:
    """Return the headers of the opening handshake.

    :param key: 16 random bytes in Base64.
    """
    # No Sec-WebSocket-Extensions: a server may then compress its frames, which FrameDecoder rejects. Ray's own log
    # tail (2.50 and 2.60) accepts permessage-deflate, sends no message, and closes normally.
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }


def accept_key(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` value for a ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """Encode a control frame from the client, with a random mask (section 5.3).

    :param payload: at most 125 bytes.
    """
    return ABNF.create_frame(payload, opcode).format()


class _IncompleteFrameError(Exception):
    """A frame is incomplete.

    :param needed: bytes that its next part has.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class _MessageTooLongError(Exception):
    """The frame would make its message too long."""


class _Frames(websocket.frame_buffer):
    """Reads frames from received bytes, instead of calling a function that waits for more.

    ``recv_frame`` raises :class:`_IncompleteFrameError` where a frame has not arrived completely, and continues there
    the next time; it rejects a frame before its payload has arrived.
    """

    # To the library they may be None, since it sets them when they have arrived.
    header: Any
    length: Any

    def __init__(self) -> None:
        super().__init__(bytes, skip_utf8_validation=True)
        self.room = 0
        """Maximum length of the payload of the next frame."""
        self._buffer = b""
        self._at = 0

    def load(self, received: bytes) -> None:
        """Set the bytes to read, which begin with the last :meth:`rest`."""
        self._buffer, self._at = received, 0

    def rest(self) -> bytes:
        """Return the bytes that are not yet read, and forget all."""
        rest = self._buffer[self._at :]
        self.load(b"")
        return rest

    def recv_strict(self, bufsize: int) -> bytes:
        """Return the next ``bufsize`` bytes."""
        start = self._at
        end = start + bufsize
        if end > len(self._buffer):
            raise _IncompleteFrameError(bufsize)
        self._at = end
        return self._buffer[start:end]

    def recv_length(self) -> None:
        """Read the length of the payload, and check what the library does not."""
        super().recv_length()
        fin, _, _, _, opcode, is_masked, _ = self.header
        if is_masked:
            raise websocket.WebSocketProtocolException("masked by the server")
        if opcode & _CONTROL:
            if not fin or self.length > _MAX_CONTROL_BYTES:
                raise websocket.WebSocketProtocolException("control frame that is fragmented or too long")
        elif self.length > self.room:
            raise _MessageTooLongError


class FrameDecoder:
    """Incrementally decode the bytes of a WebSocket into messages; chunks may end anywhere.

    A close frame, a message that is too long or an invalid frame ends the stream. So does a masked frame or one that
    uses an extension: a server does not mask, and no extension is negotiated. Text is not decoded; the caller decides
    how to handle invalid UTF-8.

    :param max_bytes: maximum size of a message, fragmented or not; it is enforced before the payload arrives.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._frames = _Frames()
        self._frames.room = max_bytes
        self._fragments: Any = websocket.continuous_frame(fire_cont_frame=False, skip_utf8_validation=True)
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 0
        self._ping: bytes | None = None
        self.ended: str | None = None
        """Why the stream has ended; ``None`` while it is open."""

    @property
    def too_long(self) -> bool:
        """Whether the stream ended because a message is too long."""
        return self.ended is TOO_LONG

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads of the text and binary messages that ``data`` completes."""
        if self.ended is not None:
            return []
        self._parts.append(data)
        self._held += len(data)
        # Joining the parts at each call would take quadratic time for a large message.
        if self._held < self._needed:
            return []
        self._frames.load(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
        self._parts.clear()
        messages: list[bytes] = []
        try:
            while self.ended is None:
                self._take(self._frames.recv_frame(), messages)
        except _IncompleteFrameError as incomplete:
            self._needed = incomplete.needed
        except _MessageTooLongError:
            self.ended = TOO_LONG
        except websocket.WebSocketException as error:
            self.ended = f"invalid frame: {error}"
        rest = self._frames.rest()
        if self.ended is None and rest:
            self._parts.append(rest)
        self._held = len(rest)
        return messages

    def take_ping(self) -> bytes | None:
        """Return and clear the payload of the last ping, which needs a pong; earlier pings need none (5.5.3)."""
        ping, self._ping = self._ping, None
        return ping

    def _take(self, frame: Any, messages: list[bytes]) -> None:
        opcode, fragments = frame.opcode, self._fragments
        if opcode & _CONTROL:
            # They may come between the fragments of a message (section 5.4).
            if opcode == PING:
                self._ping = frame.data
            elif opcode == CLOSE:
                # Its code says nothing about the job: Ray also closes with 1000 while it is running.
                self.ended = "closed by the server"
            return
        # Not fragmented, as nearly all are.
        if frame.fin and opcode != ABNF.OPCODE_CONT and fragments.recving_frames is None:
            messages.append(frame.data)
            return
        fragments.validate(frame)
        if not frame.fin and fragments.cont_data is None:
            # The library adds each further fragment with ``+=``, for which bytes would be copied each time.
            frame.data = bytearray(frame.data)
        fragments.add(frame)
        if frame.fin:
            messages.append(bytes(fragments.extract(frame)[1].data))
            self._frames.room = self._max_bytes
        else:
            self._frames.room = self._max_bytes - len(fragments.cont_data[1])
