"""Decode what a log stream delivers: JSON events, or plain text from an agent that sends lines as they are."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

EventKind = Literal["log", "complete", "error", "other"]

MAX_MESSAGE_BYTES = 64_000_000
"""Of one message of a stream, which is held whole: a WebSocket message, or the fields of a server-sent event. Ray sends
at most 4 MiB; a line of 8,000,000 characters fits, even with each of them escaped in JSON as ``\\uXXXX``."""
TOO_LONG = f"message of more than {MAX_MESSAGE_BYTES // 1_000_000} MB"


class Event(msgspec.Struct, frozen=True):
    """One message of a log stream.

    :param kind: ``log`` for log text, ``complete`` and ``error`` as the agent says, ``other`` for what is
        neither (``ping``, ``connected``, an event without a message).
    :param message: the log text, or the words of the error; empty for the other kinds.
    :param plain: the log text was the payload itself, not in a JSON event.
    """

    kind: EventKind
    message: str = ""
    plain: bool = False


_parse = msgspec.json.Decoder().decode
"""Four times as fast as :mod:`json`, and reads everything alike but for what it refuses."""

OTHER = Event("other")
COMPLETE = Event("complete")

_KINDS: dict[str, EventKind] = {
    "log": "log",
    "message": "log",
    "": "log",
    "complete": "complete",
    "error": "error",
}


def decode_event(data: str | bytes, name: str = "") -> Event:
    """Return the event that one WebSocket message or the data of one server-sent event holds.

    JSON objects that carry a ``type`` are events, and so is ``{"message": …}``. All other text is log text.

    :param data: the payload; bytes are read as UTF-8, a bad byte as U+FFFD.
    :param name: the ``event`` field of a server-sent event, which counts where the payload has no type.
    """
    try:
        payload = _parse(data)
        message = payload["message"]
        if payload["type"] == "log" and type(message) is str:
            return Event("log", message)
    except (msgspec.DecodeError, ValueError, TypeError, LookupError, RecursionError):
        # Only from msgspec 0.21 on is a DecodeError a ValueError.
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
