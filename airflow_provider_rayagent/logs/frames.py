"""A WebSocket as its client sees it (RFC 6455): the handshake's headers and the frames. Pure."""

from __future__ import annotations

import base64
import hashlib

CLOSE, PING, PONG = 0x8, 0x9, 0xA
_CONTINUATION, _TEXT, _BINARY = 0x0, 0x1, 0x2
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIN = 0x80
_OPCODE = 0x0F
_WHOLE_TEXT = _FIN | _TEXT
_MAX_CONTROL_BYTES = 125


def upgrade_headers(key: str) -> dict[str, str]:
    """Return the headers that ask for a WebSocket.

    :param key: 16 random bytes in Base64.
    """
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }


def accept_key(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` that answers a ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Return a control frame as a client sends it.

    :param payload: at most 125 bytes.
    :param mask: four random bytes.
    """
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((_FIN | opcode, 0x80 | len(payload))) + mask + masked


class FrameDecoder:
    """Turn the bytes of a WebSocket, cut anywhere, into messages.

    No extension is to be agreed on, and a server does not mask: what says otherwise ends the stream, as do a close
    frame and whatever else is not a frame. Text is not looked at: who reads it decides about bad bytes.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 0
        self._fragments: list[bytes] | None = None
        self._pings: list[bytes] = []
        self.ended: str | None = None
        """Why no more is to come; ``None`` while there is."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads of the messages, text or binary, that ``data`` completes."""
        self._parts.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return []
        buffer = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        messages: list[bytes] = []
        at, size = 0, len(buffer)
        self._needed = 2
        while size - at >= 2 and self.ended is None:
            start, length = at + 2, buffer[at + 1]
            if length > _MAX_CONTROL_BYTES:
                if length > 127:
                    self.ended = "the agent sent a masked frame"
                    break
                start += 2 if length == 126 else 8
                if start > size:
                    self._needed = start - at
                    break
                length = int.from_bytes(buffer[at + 2 : start], "big")
            end = start + length
            if end > size:
                self._needed = end - at
                break
            if buffer[at] == _WHOLE_TEXT and self._fragments is None:
                messages.append(buffer[start:end])
            else:
                self._take(buffer[at], buffer[start:end], messages)
            at = end
        self._parts = [buffer[at:]] if at < size else []
        self._held = size - at
        return messages

    def take_pings(self) -> list[bytes]:
        """Return what is to be answered with pongs, and forget it."""
        pings, self._pings = self._pings, []
        return pings

    def _take(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        opcode, final = first & _OPCODE, bool(first & _FIN)
        if opcode == CLOSE:
            self.ended = "closed by the agent"
        elif first & ~(_FIN | _OPCODE):
            self.ended = "the agent sent a frame of an extension that was not agreed on"
        elif opcode in (PING, PONG):
            if not final or len(payload) > _MAX_CONTROL_BYTES:
                self.ended = "the agent sent a control frame that is none"
            elif opcode == PING:
                self._pings.append(payload)
        elif opcode not in (_CONTINUATION, _TEXT, _BINARY) or (opcode == _CONTINUATION) is (self._fragments is None):
            self.ended = "the agent sent a frame out of place"
        elif final:
            messages.append(b"".join((*(self._fragments or ()), payload)))
            self._fragments = None
        elif self._fragments is None:
            self._fragments = [payload]
        else:
            self._fragments.append(payload)
