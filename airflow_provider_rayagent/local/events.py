"""The events of a live log, in the bytes in which they go out: each as one server-sent event.

A WebSocket message is the JSON of one of them; so a log is put into words once, however many follow it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_EVENT = 10_000
"""Longest event in characters: the agent's client drops longer ones (over 10,240) without a word."""

Event = dict[str, str]

_BEGIN, _END = b"data: ", b"\n\n"
_LOG, _CLOSE = _BEGIN + b'{"type": "log", "message": "', b'"}'


def encode_event(event: Event) -> bytes:
    """Return one event. It is ASCII, because clients cut lines at other separators too, such as U+2028."""
    return _BEGIN + json.dumps(event).encode("ascii") + _END


COMPLETE = encode_event({"type": "complete"})


def log_events(text: str, limit: int = MAX_EVENT) -> Iterator[bytes]:
    """Yield ``text`` as ``log`` events of at most ``limit`` characters of JSON, cut after a newline where possible."""
    most = limit + len(_BEGIN) + len(_END)
    start = 0
    while start < len(text):
        size = limit
        while True:
            part = text[start : start + size]
            if start + len(part) < len(text):
                part = part[: part.rfind("\n") + 1] or part
            event = encode_event({"type": "log", "message": part})
            if len(event) <= most or len(part) == 1:
                break
            size = min(len(part) - 1, len(part) * limit // len(event))
        yield event
        start += len(part)


def whole_events(data: bytes) -> bytes:
    """Return ``data`` without the beginning of an event at its end."""
    begin, end, _ = data.rpartition(_END)
    return begin + end


def join_logs(events: bytes, limit: int = MAX_EVENT) -> bytes:
    """Return the events with ``log`` events in a row as one, where that is not too long.

    Who follows late is given what was logged before in few messages, as by Ray: clients have a limit on their number.
    """
    if events.count(_END) * limit < 2 * len(events):
        # Most are longer than half of what one may be: those of a log that came fast. It is to go out fast.
        return events
    pieces: list[bytes] = []
    room = 0
    for event in events.split(_END)[:-1]:
        is_log = event.startswith(_LOG)
        text = event[len(_LOG) : -len(_CLOSE)]
        if is_log and len(text) <= room:
            # In place of the end of the event before.
            pieces[-1] = text
            room -= len(text)
        else:
            pieces.append(event[: -len(_CLOSE)])
            room = limit + len(_BEGIN) - len(event) if is_log else 0
        pieces.append(_CLOSE + _END)
    return b"".join(pieces)


def messages(events: bytes) -> list[str]:
    """Return each of the events as a WebSocket message."""
    return [each[len(_BEGIN) :].decode("ascii") for each in events.split(_END)[:-1]]
