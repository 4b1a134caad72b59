"""Encoding of a live log as server-sent events.

A WebSocket message is the JSON of one event, so a log is encoded once for all of its followers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_EVENT_CHARS = 10_000
"""Maximum length of an event; the agent's client silently drops events of more than 10,240 characters."""

Event = dict[str, str]

_BEGIN, _END = b"data: ", b"\n\n"
_LOG, _CLOSE = _BEGIN + b'{"type": "log", "message": "', b'"}'


def encode_event(event: Event) -> bytes:
    """Return an event as ASCII, since some clients also split lines at separators such as U+2028."""
    return _BEGIN + json.dumps(event).encode("ascii") + _END


COMPLETE = encode_event({"type": "complete"})


def log_events(text: str, limit: int = MAX_EVENT_CHARS) -> Iterator[bytes]:
    """Yield ``text`` as ``log`` events of at most ``limit`` characters of JSON, split at newlines where possible."""
    max_bytes = limit + len(_BEGIN) + len(_END)
    start = 0
    while start < len(text):
        size = limit
        while True:
            part = text[start : start + size]
            if start + len(part) < len(text):
                part = part[: part.rfind("\n") + 1] or part
            event = encode_event({"type": "log", "message": part})
            if len(event) <= max_bytes or len(part) == 1:
                break
            size = min(len(part) - 1, len(part) * limit // len(event))
        yield event
        start += len(part)


def complete_events(data: bytes) -> bytes:
    """Return ``data`` without an incomplete event at its end."""
    begin, end, _ = data.rpartition(_END)
    return begin + end


def merge_log_events(events: bytes, limit: int = MAX_EVENT_CHARS) -> bytes:
    """Return the events with consecutive ``log`` events merged up to the limit.

    A late follower then gets the log so far in few messages, as it does from Ray: clients limit their number.
    """
    if events.count(_END) * limit < 2 * len(events):
        # The average event is longer than half the limit: merging would save little, and slow down a fast log.
        return events
    pieces: list[bytes] = []
    room = 0
    for event in events.split(_END)[:-1]:
        is_log = event.startswith(_LOG)
        text = event[len(_LOG) : -len(_CLOSE)]
        if is_log and len(text) <= room:
            # Replace the end of the previous event.
            pieces[-1] = text
            room -= len(text)
        else:
            pieces.append(event[: -len(_CLOSE)])
            room = limit + len(_BEGIN) - len(event) if is_log else 0
        pieces.append(_CLOSE + _END)
    return b"".join(pieces)


def messages(events: bytes) -> list[str]:
    """Return the events as WebSocket messages."""
    return [each[len(_BEGIN) :].decode("ascii") for each in events.split(_END)[:-1]]
