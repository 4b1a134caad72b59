"""The client side of WebSocket (RFC 6455): handshake headers and frames. Pure.

Why no library: both transports open a WebSocket like any other connection, so that proxies, CAs, redirects and
rejected handshakes are handled in one place. What remains is to decode frames. ``websockets`` and ``websocket-client``
open their own connections, and take longer: 3.5 µs and 5 to 25 µs (without and with its UTF-8 check) per frame of 100
bytes, instead of 0.3 µs. ``websocket-client`` (1.8 to 1.9.2) also reads the whole body of a rejected handshake, and
does not limit the size of a message.
"""

from __future__ import annotations

import base64
import hashlib

from airflow_provider_rayagent.stream.events import MAX_MESSAGE_BYTES, TOO_LONG

CLOSE, PING, PONG = 0x8, 0x9, 0xA
NORMAL_CLOSURE = (1000).to_bytes(2, "big")
"""Payload of a close frame (section 7.4.1)."""
_CONTINUATION, _TEXT, _BINARY = 0x0, 0x1, 0x2
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIN = 0x80
_OPCODE = 0x0F
_CONTROL = 0x08
_UNFRAGMENTED_TEXT = _FIN | _TEXT
# Equals no byte, so that every frame takes the slow path while a message is fragmented.
_NO_FAST_PATH = -1
_MASKED = "masked frame from the server"
_BAD_CONTROL = "invalid control frame (fragmented or longer than 125 bytes)"
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


def frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Encode a control frame from the client.

    :param payload: at most 125 bytes.
    :param mask: four random bytes.
    """
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((_FIN | opcode, 0x80 | len(payload))) + mask + masked


class FrameDecoder:
    """Incrementally decode the bytes of a WebSocket into messages; chunks may end anywhere.

    A close frame, a message that is too long or an invalid frame ends the stream. So does a masked frame or one that
    uses an extension: a server does not mask, and no extension is negotiated. Text is not decoded; the caller decides
    how to handle invalid UTF-8.

    :param max_bytes: maximum size of a message, fragmented or not; it is enforced before the payload arrives.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = self._room = max_bytes
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 0
        self._fragments: bytearray | None = None
        self._fast_path = _UNFRAGMENTED_TEXT
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
        buffer = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        messages: list[bytes] = []
        read = self._read(buffer, messages)
        rest = buffer[read:] if self.ended is None else b""
        self._parts = [rest] if rest else []
        self._held = len(rest)
        return messages

    def take_ping(self) -> bytes | None:
        """Return and clear the payload of the last ping, which needs a pong; earlier pings need none (5.5.3)."""
        ping, self._ping = self._ping, None
        return ping

    def _read(self, buffer: bytes, messages: list[bytes]) -> int:
        """Decode the complete frames and return the index of the first incomplete one."""
        at, size = 0, len(buffer)
        self._needed = 2
        room, fast_path = self._room, self._fast_path
        while size - at >= 2:
            first, length = buffer[at], buffer[at + 1]
            start = at + 2
            if length > _MAX_CONTROL_BYTES:
                # The highest bit of this byte says that the frame is masked (section 5.2).
                if length > 127 or first & _CONTROL:
                    self.ended = _MASKED if length > 127 else _BAD_CONTROL
                    break
                start += 2 if length == 126 else 8
                if start > size:
                    self._needed = start - at
                    break
                length = int.from_bytes(buffer[at + 2 : start], "big")
            end = start + length
            if first == fast_path and length <= room and end <= size:
                messages.append(buffer[start:end])
            elif length > room and not first & _CONTROL:
                self.ended = TOO_LONG
                break
            elif end > size:
                self._needed = end - at
                break
            else:
                self._take(first, buffer[start:end], messages)
                if self.ended is not None:
                    break
                room, fast_path = self._room, self._fast_path
            at = end
        return at

    def _take(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        opcode, final = first & _OPCODE, bool(first & _FIN)
        # The code of a close frame says nothing about the job: Ray also closes with 1000 while it is running.
        if opcode == CLOSE:
            self.ended = "closed by the server"
        elif first & ~(_FIN | _OPCODE):
            self.ended = "frame of an extension that was not negotiated"
        elif opcode in (PING, PONG):
            # They may come between the fragments of a message (section 5.4).
            if not final:
                self.ended = _BAD_CONTROL
            elif opcode == PING:
                self._ping = payload
        elif opcode not in (_CONTINUATION, _TEXT, _BINARY) or (opcode == _CONTINUATION) is (self._fragments is None):
            self.ended = "unexpected frame: unknown opcode, or continuation out of order"
        elif final and self._fragments is None:
            messages.append(payload)
        else:
            self._fragments = self._fragments or bytearray()
            self._fragments += payload
            self._room, self._fast_path = self._max_bytes - len(self._fragments), _NO_FAST_PATH
            if final:
                messages.append(bytes(self._fragments))
                self._fragments = None
                self._room, self._fast_path = self._max_bytes, _UNFRAGMENTED_TEXT
