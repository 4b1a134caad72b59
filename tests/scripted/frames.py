"""WebSocket frames (RFC 6455) and permessage-deflate (RFC 7692), by hand, so that they can also be wrong."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

DEFLATE_OFFER = "permessage-deflate"
DEFLATE_ACCEPTED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` that answers a client's ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return one unmasked frame, as a server sends it.

    :param rsv: the three reserved bits, 4 for RSV1 (compressed).
    """
    first = (0x80 if fin else 0) | (rsv << 4) | opcode
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def fragments(opcode: int, pieces: list[bytes], *, rsv: int = 0) -> Iterator[bytes]:
    """Yield one message as one frame a piece."""
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        yield frame(CONTINUATION if index else opcode, piece, fin=last, rsv=0 if index else rsv)


def close_payload(code: int | None, reason: str = "") -> bytes:
    """Return the payload of a close frame; any number is taken, ``None`` gives the empty one."""
    return b"" if code is None else struct.pack("!H", code) + reason.encode()


def deflate(payload: bytes) -> bytes:
    """Return ``payload`` compressed for one message without context takeover."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


class ClientFrames:
    """Splits what a client sends into frames, whatever the borders of the reads."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield ``(opcode, payload)`` of every frame that is complete."""
        self._buffer += data
        while (found := self._next()) is not None:
            yield found

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < at + width:
                return None
            size, at = int.from_bytes(buffer[at : at + width], "big"), at + width
        mask = b""
        if buffer[1] & 0x80:
            mask, at = bytes(buffer[at : at + 4]), at + 4
        if len(buffer) < at + size:
            return None
        opcode, payload = buffer[0] & 0x0F, bytes(buffer[at : at + size])
        del buffer[: at + size]
        if mask:
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        return opcode, payload
