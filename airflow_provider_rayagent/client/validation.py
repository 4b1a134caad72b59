"""Arguments that are refused before anything is sent. Pure.

The rules are those of the agent's own client, ``synapse_sdk.clients.agent``, where it has any.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NewType, TypeVar
from urllib.parse import quote

from airflow_provider_rayagent.client.errors import RayAgentInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ID_LENGTH = 100
MAX_TIMEOUT = 300.0
"""Longest timeout, in seconds, that the agent's client takes for a stream."""
MAX_DURATION = 100 * 365 * 86_400.0
"""Seconds; as good as no bound, and still a time that Python can wait for (``threading.TIMEOUT_MAX``) and date."""

Protocol = Literal["auto", "websocket", "http"]
PROTOCOLS: tuple[Protocol, ...] = ("auto", "websocket", "http")
JobId = NewType("JobId", str)
"""A job's id that :func:`validate_job_id` has checked; it can be sent as it is."""
ChoiceT = TypeVar("ChoiceT", bound=str)

_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}", re.ASCII)


def validate_job_id(value: object) -> JobId:
    """Return ``value`` if it is a job's id; see :func:`validate_id`.

    :raises RayAgentInputError: for anything else.
    """
    return JobId(validate_id(value, "job"))


def validate_id(value: object, kind: str) -> str:
    """Return ``value`` if it is an id that the agent takes: 1 to 100 characters of ``A-Z a-z 0-9 _ -``.

    :param kind: what the id names (``job``, ``node``, ``task``), for the message.
    :raises RayAgentInputError: for anything else.
    """
    if not isinstance(value, str) or not value:
        raise RayAgentInputError(f"The {kind} id must be a non-empty string, not {shown(value)}.")
    if not _ID.fullmatch(value):
        raise RayAgentInputError(
            f"The {kind} id {shown(value)} is not valid: 1 to {MAX_ID_LENGTH} letters, digits, '_' or '-'."
        )
    return value


def quote_application_name(value: object) -> str:
    """Return a Serve application's name quoted for one path segment; Ray allows any characters in it.

    :raises RayAgentInputError: if it is empty, ``.`` or ``..``, or has a slash or a control character.
    """
    return quote(validate_segment(value, "application name"), safe="")


def validate_segment(value: object, what: str) -> str:
    """Return ``value`` if one segment of a URL path can carry it, once quoted.

    :param what: what it is, for the message.
    :raises RayAgentInputError: if it is blank, ``.`` or ``..``, or has a slash, a control character or a surrogate.
    """
    text = validate_text(value, what)
    if text in (".", ".."):
        raise RayAgentInputError(f"The {what} {shown(value)} cannot be sent in a URL path.")
    if "/" in text:
        raise RayAgentInputError(f"The {what} {shown(value)} has a slash, which the agent's URL paths cannot carry.")
    return text


def validate_text(value: object, what: str) -> str:
    """Return ``value`` if it is a string of visible characters.

    :param what: what it is, for the message.
    :raises RayAgentInputError: if it is blank, or has a control character or a lone surrogate.
    """
    if not isinstance(value, str) or not value.strip():
        raise RayAgentInputError(f"The {what} must be a non-empty string, not {shown(value)}.")
    if any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise RayAgentInputError(f"The {what} {shown(value)} has a control character.")
    return value


def validate_timeout(value: object, name: str = "timeout") -> float:
    """Return ``value`` as seconds, if it is a duration of at most 300 seconds, as the agent's client demands.

    :raises RayAgentInputError: for anything else.
    """
    return validate_duration(value, name, at_most=MAX_TIMEOUT)


def validate_duration(value: object, name: str, *, at_most: float = MAX_DURATION, or_zero: bool = False) -> float:
    """Return ``value`` as seconds, if it is a ``timedelta`` or a number of seconds over 0.

    :param name: what it is, for the message.
    :param at_most: seconds.
    :param or_zero: whether it may be 0.
    :raises RayAgentInputError: for anything else, booleans and NaN included.
    """
    seconds = _seconds(value)
    if seconds is None or not (0 < seconds <= at_most or (or_zero and seconds == 0)):
        least = "from 0 to" if or_zero else "greater than 0 and up to"
        raise RayAgentInputError(
            f"{name} must be a number of seconds {least} {at_most:.0f}, or a timedelta, not {shown(value)}."
        )
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def validate_count(value: object, name: str) -> int:
    """Return ``value``, if it is a whole number over 0.

    :raises RayAgentInputError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RayAgentInputError(f"{name} must be a whole number greater than 0, not {shown(value)}.")
    return value


def validate_protocol(value: object) -> Protocol:
    """Return ``value`` if it is one of :data:`PROTOCOLS`.

    :raises RayAgentInputError: for anything else.
    """
    return validate_choice(value, "protocol", PROTOCOLS)


def validate_choice(value: object, name: str, choices: Sequence[ChoiceT]) -> ChoiceT:
    """Return ``value`` if it is one of ``choices``.

    :raises RayAgentInputError: for anything else.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise RayAgentInputError(f"Unknown {name} {shown(value)}: use one of {', '.join(choices)}.")


def shown(value: object) -> str:
    """Return a value as a message shows it: in ASCII, and cut to 60 characters."""
    try:
        text = ascii(value)
    except ValueError:  # An int with more digits than Python turns into text (sys.set_int_max_str_digits).
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
