"""Validate and build the body of a request to run a plugin, and find the job id in the response. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.services.validation import (
    json_object,
    shown,
    validate_duration,
    validate_id,
    validate_job_id,
    validate_segment,
    validate_text,
)

_ID_NAMES = ("job_id", "submission_id", "id")
_NESTED_IN = ("job", "result", "data")


def quote_lookup(lookup: object) -> str:
    """Return the lookup of a plugin release, quoted as one path segment.

    :raises RayAgentInputError: if it cannot be sent as a path segment.
    """
    # For ``plugin@version``; all three may stand in a segment as they are (RFC 3986, section 3.3).
    return quote(validate_segment(lookup, "plugin lookup"), safe="@:+")


def run_body(
    action: object, params: object, *, requirements: object = None, job_id: object = None, language: object = None
) -> dict[str, Any]:
    """Return the body of a request to run an action, without arguments that are ``None``.

    :raises RayAgentInputError: for an invalid argument.
    """
    body: dict[str, Any] = {"action": validate_text(action, "action")}
    if params is not None:
        body["params"] = json_object(params, "params")
    if requirements is not None:
        body["requirements"] = _texts(requirements, "requirements")
    if job_id is not None:
        body["job_id"] = validate_job_id(job_id)
    if language is not None:
        body["language"] = validate_text(language, "language")
    return body


def debug_body(plugin_path: object, config: object, modules: object) -> dict[str, Any]:
    """Return the additional body of a request to run an action from source.

    :raises RayAgentInputError: for an invalid argument.
    """
    body: dict[str, Any] = {}
    if plugin_path is not None:
        body["plugin_path"] = validate_text(plugin_path, "plugin path")
    if config is not None:
        body["config"] = json_object(config, "config")
    if modules is not None:
        body["modules"] = json_object(modules, "modules")
        if not all(isinstance(source, str) for source in body["modules"].values()):
            raise RayAgentInputError("modules must map each module's name to its source code, a string.")
    return body


def validate_timeout_pair(value: object) -> tuple[float, float]:
    """Return ``value`` if it is a pair of connect and read timeouts in seconds.

    :raises RayAgentInputError: for anything else.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise RayAgentInputError(f"timeout must be a pair of seconds, (connect, read), not {shown(value)}.")
    connect, read = value
    return validate_duration(connect, "timeout's connect"), validate_duration(read, "timeout's read")


def job_id_in(response: Mapping[str, Any], requested: str | None = None) -> str | None:
    """Return the job id in the response to a run, or ``None`` if there is none.

    The keys ``job_id`` and ``submission_id`` are searched, at the top level and in ``job``, ``result`` or ``data``. The
    key ``id``, and a text in place of these objects, may be something else: they count only if no id was requested.

    :param requested: the id that was sent with the run; returned if the response contains it, or no other id.
    """
    names = _ID_NAMES if requested is None else _ID_NAMES[:2]
    # ``answer`` is of ``read_response`` in ``transport/responses.py``: a response that is no object, such as the id
    # alone.
    nested = [response[name] for name in (*_NESTED_IN, "answer") if name in response]
    values = [part.get(name) for name in names for part in (response, *nested) if isinstance(part, Mapping)]
    # A text alone, such as ``accepted``, may be anything.
    values += [part for part in nested if requested is None and not isinstance(part, Mapping)]
    ids = [value for value in values if _is_id(value)]
    return requested if requested in ids else next(iter(ids), requested)


def _is_id(value: object) -> bool:
    try:
        validate_id(value, "job")
    except RayAgentInputError:
        return False
    return True


def _texts(value: object, name: str) -> list[str]:
    # A string is a Sequence as well, and would be sent as requirements of one letter each.
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RayAgentInputError(f"{name} must be a list of strings, not {type(value).__name__}.")
    return [validate_text(each, f"element of {name}") for each in value]
