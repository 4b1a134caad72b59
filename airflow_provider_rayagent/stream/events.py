"""Decode the messages of a log stream: JSON events, or plain text from an agent that sends the log as is."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

EventKind = Literal["log", "complete", "error", "other"]

MAX_MESSAGE_BYTES = 64_000_000
"""Maximum size of a stream's message, which is held in memory: a WebSocket message, or the fields of a server-sent
event. Ray sends at most 4 MiB. A line of 8,000,000 characters fits, even if JSON escapes each one as ``\\uXXXX``."""
TOO_LONG = f"message of more than {MAX_MESSAGE_BYTES // 1_000_000} MB"


class Event(msgspec.Struct, frozen=True):
    """One message of a log stream.

    :param kind: ``log`` for log text; ``complete`` and ``error`` for the agent's events of these types; ``other`` for
        all other events (``ping``, ``connected``, an event without a message).
    :param message: the log text or the error message; empty for the other kinds.
    :param plain: whether the log text was the payload itself rather than part of a JSON event.
    """

    kind: EventKind
    message: str = ""
    plain: bool = False


_parse = msgspec.json.Decoder().decode
"""Faster than :mod:`json`, for a short line about 10 times. It rejects some input that :mod:`json` accepts, and parses
all else the same."""

OTHER = Event("other")
COMPLETE = Event("complete")

# ``message`` is the name of a server-sent event without an ``event`` field (WHATWG HTML, section 9.2.6).
_KINDS: dict[str, EventKind] = {
    "log": "log",
    "message": "log",
    "": "log",
    "complete": "complete",
    "error": "error",
}


def decode_event(data: str | bytes, name: str = "") -> Event:
    """Decode one WebSocket message, or the data of one server-sent event.

    A JSON object with a ``type`` or a ``message`` is an event. All other text is log text.

    :param data: the payload; bytes are decoded as UTF-8, with U+FFFD for each invalid byte.
    :param name: the ``event`` field of a server-sent event, used if the payload has no ``type``.
    """
    try:
        # A fast path for the form of most messages; all others, invalid ones included, take the tolerant one.
        payload = _parse(data)
        message = payload["message"]
        if payload["type"] == "log" and type(message) is str:
            return Event("log", message)
    except (msgspec.DecodeError, ValueError, TypeError, LookupError, RecursionError):
        # Before msgspec 0.21, DecodeError is not a subclass of ValueError.
        pass
    return _decode_any(data, name)


def _decode_any(data: str | bytes, name: str) -> Event:
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    payload = _json_object(text)
    if payload is None or not ("type" in payload or "message" in payload):
        kind = _KINDS.get(name, "other")
        return Event(kind, text, plain=kind == "log") if kind in ("log", "error") else Event(kind)
    kind = _KINDS.get(str(payload.get("type") or name), "other")
    message = payload.get("message")
    if kind == "log":
        return OTHER if message is None else Event("log", _text(message))
    if kind == "error":
        return Event("error", _text(message) if message is not None else "no reason given")
    return Event(kind)


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip(" \t\r\n").startswith("{"):
        return None
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def _text(message: object) -> str:
    return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
