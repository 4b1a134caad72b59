"""Validate arguments before a request is sent. Pure.

The rules follow the agent's own client, ``synapse_sdk.clients.agent``, where it has any.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NewType, TypeGuard, TypeVar
from urllib.parse import quote

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ID_LENGTH = 100
MAX_INTEGER = 2**63 - 1
"""The largest signed integer of 64 bits. A larger one cannot be a float, or be written as JSON, in every case."""
MAX_DURATION = 100 * 365 * 86_400.0
"""Seconds; practically unlimited, but within the limits of ``threading.TIMEOUT_MAX`` and ``datetime``."""

POLL_SECONDS = 5.0
"""Default interval between two status checks."""
MIN_POLL_SECONDS = 0.5
"""Minimum interval between two polls by a trigger, or of a job that a task follows: a sensor's ``poke_interval`` may
be 0."""
STALL_SECONDS = 600.0
"""Default time for which a job has written nothing before the task log says what runs of it."""

Protocol = Literal["auto", "websocket", "http"]
PROTOCOLS: tuple[Protocol, ...] = ("auto", "websocket", "http")
JobId = NewType("JobId", str)
"""A job id that :func:`validate_job_id` has validated; it needs no quoting."""
ChoiceT = TypeVar("ChoiceT", bound=str | bool | None)

# As in the agent's client. Ray takes any id, but makes of one with a slash, a NUL or more than some 239 bytes a PENDING
# record that cannot be deleted.
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}", re.ASCII)


def validate_job_id(value: object) -> JobId:
    """Return ``value`` if it is a valid job id; see :func:`validate_id`.

    :raises RayAgentInputError: for anything else.
    """
    return JobId(validate_id(value, "job"))


def is_id(value: object) -> TypeGuard[str]:
    """Whether ``value`` is a valid id; see :func:`validate_id`."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def is_loopback(host: str) -> bool:
    """Return whether a host name or IP address is that of the own machine."""
    # Linux connects to the own machine for 0.0.0.0.
    return host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")  # noqa: S104


def validate_id(value: object, kind: str) -> str:
    """Return ``value`` if it is a valid id: 1 to 100 characters of ``A-Z a-z 0-9 _ -``.

    :param kind: type of the object (``job``, ``node``, ``task``), for the message.
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
    """Return the name of a Serve application, quoted as one path segment; Ray allows any characters in it.

    :raises RayAgentInputError: if it is empty, ``.`` or ``..``, or contains a slash or a control character.
    """
    return quote_segment(value, "application name")


def quote_segment(value: object, what: str) -> str:
    """Return ``value``, quoted as one path segment; see :func:`validate_segment`."""
    return quote(validate_segment(value, what), safe="")


def validate_segment(value: object, what: str) -> str:
    """Return ``value`` if it can be quoted as one segment of a URL path.

    :param what: description of the value, for the message.
    :raises RayAgentInputError: if it is blank, ``.`` or ``..``, or contains a slash, control character or surrogate.
    """
    text = validate_text(value, what)
    # Clients such as urllib3 remove these segments from a path (RFC 3986, section 5.2.4).
    if text in (".", ".."):
        raise RayAgentInputError(f"The {what} {shown(value)} cannot be sent in a URL path.")
    # ASGI servers decode %2F before they look for a route, so that it would be two segments.
    if "/" in text:
        raise RayAgentInputError(f"The {what} {shown(value)} contains a slash, which cannot be sent in a URL path.")
    return text


def validate_text(value: object, what: str) -> str:
    """Return ``value`` if it is a non-blank string without control characters.

    :param what: description of the value, for the message.
    :raises RayAgentInputError: if it is blank, or contains a control character or a lone surrogate.
    """
    if not isinstance(value, str) or not value.strip():
        raise RayAgentInputError(f"The {what} must be a non-empty string, not {shown(value)}.")
    if any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise RayAgentInputError(f"The {what} {shown(value)} contains a control character.")
    return value


def validate_timeout(value: object, name: str = "timeout") -> float:
    """Return ``value`` as seconds, if it is a duration of at most 300 seconds, the limit of the agent's client.

    :raises RayAgentInputError: for anything else.
    """
    return validate_duration(value, name, at_most=MAX_TIMEOUT)


def validate_duration(value: object, name: str, *, at_most: float = MAX_DURATION, or_zero: bool = False) -> float:
    """Return ``value`` as seconds, if it is a ``timedelta`` or a number of seconds greater than 0.

    :param name: name of the argument, for the message.
    :param at_most: maximum in seconds.
    :param or_zero: whether 0 is valid.
    :raises RayAgentInputError: for anything else, including booleans and NaN.
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


def seconds_of_time(value: object, name: str) -> float:
    """Return a point in time as seconds since the epoch.

    :param value: such seconds, or as text; a ``datetime`` with a time zone, or its text in ISO 8601.
    :param name: name of the argument, for the message.
    :raises RayAgentInputError: for anything else, including booleans and NaN.
    """
    moment = value
    if isinstance(value, str):
        text = value.strip()
        # Python 3.10 does not read the Z (documentation of `datetime.fromisoformat`).
        text = f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text
        for read in (float, datetime.fromisoformat):
            with suppress(ValueError):
                moment = read(text)
                break
    if isinstance(moment, datetime):
        moment = None if moment.tzinfo is None else moment.timestamp()
    seconds = None if isinstance(moment, timedelta) else _seconds(moment)
    if seconds is None or not math.isfinite(seconds):
        raise RayAgentInputError(
            f"{name} must be a datetime with a time zone, its text in ISO 8601, or seconds since the epoch, "
            f"not {shown(value)}."
        )
    return seconds


def validate_count(value: object, name: str, *, or_zero: bool = False) -> int:
    """Return ``value``, if it is an integer greater than 0 and up to :data:`MAX_INTEGER`.

    :param or_zero: whether 0 is valid.
    :raises RayAgentInputError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not (0 if or_zero else 1) <= value <= MAX_INTEGER:
        least = "of at least 0" if or_zero else "greater than 0"
        raise RayAgentInputError(f"{name} must be a whole number {least}, not {shown(value)}.")
    return value


def validate_amount(value: object, name: str) -> float:
    """Return ``value``, if it is a number of at least 0 that is finite as a float.

    :raises RayAgentInputError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
        raise RayAgentInputError(f"{name} must be a number of at least 0, not {shown(value)}.")
    return value


def validate_bytes(value: object, name: str) -> int:
    """Return ``value``, if it is a number of bytes up to :data:`MAX_INTEGER`.

    :raises RayAgentInputError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INTEGER:
        raise RayAgentInputError(f"{name} must be a whole number of bytes, not {shown(value)}.")
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
    raise RayAgentInputError(f"Unknown {name} {shown(value)}: use one of {', '.join(map(str, choices))}.")


def json_object(value: object, name: str) -> dict[str, Any]:
    """Return a mapping as a JSON object.

    :raises RayAgentInputError: if it is not a mapping or not serializable as JSON.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise RayAgentInputError(f"{name} must be a mapping with strings as keys, not {type(value).__name__}.")
    try:
        # A copy in JSON's own types, so that a later change of the argument changes nothing. NaN is not JSON (RFC 8259,
        # section 6).
        sent: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise RayAgentInputError(f"{name} cannot be sent as JSON: {error}.") from None
    return sent


def shown(value: object) -> str:
    """Return a value in a form for messages: in ASCII, truncated to 60 characters."""
    try:
        text = ascii(value)
    except ValueError:  # Python limits the digits of an int (sys.set_int_max_str_digits).
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def validate_markers(value: object) -> tuple[str, str]:
    """Return ``value`` as the start and end marker of a result.

    :raises RayAgentInputError: if it is not two non-empty strings.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(isinstance(m, str) and m for m in value):
        raise RayAgentInputError(f"result_markers must be two non-empty strings, not {value!r:.100}.")
    return (value[0], value[1])
