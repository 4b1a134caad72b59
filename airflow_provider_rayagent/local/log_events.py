"""The events of a live log, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_EVENT_CHARS = 10_000
"""Maximum length of an event; the agent's client silently drops events of more than 10,240 characters."""
COMPLETE = json.dumps({"type": "complete"})


def error_event(message: str) -> str:
    """Return the event that ends a log which is not complete."""
    return json.dumps({"type": "error", "message": message})


def log_events(text: str) -> Iterator[str]:
    """Yield ``text`` as events of at most :data:`MAX_EVENT_CHARS`, split at newlines where possible.

    They are ASCII, since some clients also split lines at separators such as U+2028.
    """
    start = 0
    while start < len(text):
        size = MAX_EVENT_CHARS
        while True:
            part = text[start : start + size]
            if start + len(part) < len(text):
                part = part[: part.rfind("\n") + 1] or part
            # Escapes make an event longer than its text, so its length is known only now.
            event = json.dumps({"type": "log", "message": part})
            if len(event) <= MAX_EVENT_CHARS:
                break
            # Shorter each time, so this ends; in proportion, so it ends soon.
            size = min(len(part) - 1, len(part) * MAX_EVENT_CHARS // len(event))
        yield event
        start += len(part)
