"""Parse the agent's responses: return a value of the expected shape, or raise an error that tells what was received.

Whoever edits connections names any host, and sees these errors on the Ray page, in *Test* and in the task log.
Therefore they show text of a body only if it has a form of the service (``read_error`` of the services), and of any
other body its size and type.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentHTTPError,
    RayAgentResourcesError,
    RayAgentResponseError,
    for_status,
)
from airflow_provider_rayagent.services.service import ErrorResponse
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.services.call import Call

MAX_SHOWN = 300
"""Characters of the service's words that an error message shows."""
MAX_REDIRECTS = 3
GPU_UNAVAILABLE = "gpu_unavailable"
"""The ``error_type`` of a 503 that is not an outage: the cluster lacks the requested GPUs."""

_MEDIA_TYPE = re.compile(r"\s*([\w!#$&^.+-]{1,60}/[\w!#$&^.+-]{1,60})\s*(?:;|$)", re.ASCII)
"""A media type without its parameters (RFC 6838, section 4.2, which permits longer names)."""


def read_response(
    call: Call,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    config: ServiceConfig,
    loads: Callable[[str], Any] = json.loads,
) -> Any:
    """Return the value of a response (a dict, a list of dicts, or ``None``, depending on ``call.shape``), converted.

    For the shape ``any``, an object is returned as is, an empty body or ``null`` as ``{}``, and anything else as
    ``{"answer": …}``.

    :param headers: the headers of the response, a case-insensitive mapping.
    :param config: the connection, with the service and the secrets to redact in error messages.
    :param loads: parses JSON.
    :raises RayAgentHTTPError: for an error status, or a redirect, which is not followed.
    :raises RayAgentResponseError: for a body of another type or shape.
    """
    check_status(call, status, headers, body, config)
    # By its type alone: a text may begin as an HTML page does.
    is_text = call.shape == "text" and not is_html(headers, "")
    value = body.decode("utf-8", "replace") if is_text else _value(call, status, headers, body, config, loads)
    if call.convert is None:
        return value
    try:
        return call.convert(value)
    except RayAgentError as error:
        # It may quote the response.
        raise type(error)(brief(error.detail, config.redact), error.status_code, code=error.code) from None


def _value(
    call: Call,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    config: ServiceConfig,
    loads: Callable[[str], Any],
) -> Any:
    if call.shape == "nothing":
        return None
    text = body.decode("utf-8", "replace").strip()
    if call.shape == "any" and not is_html(headers, text):
        value = {} if text in ("", "null") else _parsed(text)
        return value if isinstance(value, dict) else {"answer": text if value is None else value}

    def wrong(expected: str, got: str) -> RayAgentResponseError:
        return unexpected(call, status, expected, f"{got} ({size_and_type(headers, body, config)})", config)

    if not text:
        raise unexpected(call, status, "JSON", "an empty body", config)
    if is_html(headers, text):
        raise wrong("JSON", "an HTML page")
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        # ``json`` raises RecursionError for deeply nested values.
        raise wrong("JSON", "invalid JSON") from None
    if call.shape == "list":
        # The agent's format is not documented; both forms are accepted.
        if isinstance(value, dict) and isinstance(value.get("results"), list):
            value = value["results"]
        valid = isinstance(value, list) and all(isinstance(item, dict) for item in value)
        expected = "a JSON list of objects"
    else:
        valid, expected = isinstance(value, dict), "a JSON object"
    if not valid:
        raise wrong(expected, "other JSON")
    return value


def unexpected(call: Call, status: int, expected: str, got: str, config: ServiceConfig) -> RayAgentResponseError:
    """Return the error for a 2xx status whose body is not the service's.

    :param expected: what should have been received.
    :param got: what was received, without any text of the body.
    """
    question = f"is this the URL of {config.service.label}?"
    return RayAgentResponseError(f"{call.name} answered {status}: expected {expected}, got {got}; {question}", status)


def size_and_type(headers: Mapping[str, str], body: bytes, config: ServiceConfig) -> str:
    """Return what may be told of any body, such as ``1,234 bytes, text/html``."""
    found = _MEDIA_TYPE.match(headers.get("content-type", ""))
    size = f"{len(body):,} bytes"
    return f"{size}, {brief(found[1], config.redact)}" if found else size


def check_status(call: Call, status: int, headers: Mapping[str, str], body: bytes, config: ServiceConfig) -> None:
    """Raise the error for a status other than 2xx.

    :raises RayAgentHTTPError: for an error status or a redirect.
    :raises RayAgentResourcesError: if GPUs are unavailable.
    :raises RayAgentResponseError: for a 404 that the service itself did not send.
    """
    if 200 <= status < 300:
        return
    where = f"{call.name} answered {status}"
    if status < 400:
        target = brief(_shown_target(headers.get("location")), config.redact)
        raise RayAgentHTTPError(
            f"{where}, a redirect to {target}; not followed, so that the token is not sent "
            f"there. If that is the URL of {config.service.label}, enter it in the connection.",
            status,
            code=Code.NOT_THE_SERVICE,
        )
    text = body.decode("utf-8", "replace").strip()
    missing = _missing_gpus(text) if status == 503 else None
    if missing is not None:
        raise RayAgentResourcesError(f"{where}: {brief(missing, config.redact)}", status)
    found = ErrorResponse(status, is_own=False) if is_html(headers, text) else config.service.read_error(status, text)
    if not found.is_own:
        detail = f"{where}, but not in the form of {config.service.label} ({size_and_type(headers, body, config)})"
        if status == 404:
            # A wrong path, or the default page of an ingress: it does not mean that the job does not exist.
            raise RayAgentResponseError(f"{detail}; is this its URL?", status)
        # A proxy in front of the service answers 5xx in its own form, too.
        detail = f"{detail}; is this its URL?" if status < 500 else f"{detail}."
    else:
        detail = f"{where}: {brief(found.reason, config.redact)}" if found.reason else f"{where}."
    error = for_status(found.status, detail)
    # A proxy in front of the service answers 5xx.
    error.is_foreign = not found.is_own and status < 500
    error.retry_after = retry_after(headers)
    raise error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the value of a ``Retry-After`` header in seconds, or ``None`` if it is missing or invalid."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        # Seconds or a date (RFC 9110, section 10.2.3).
        return float(Retry().parse_retry_after(value))
    except (InvalidHeader, ValueError, OverflowError):
        # A number with too many digits, or a year that datetime does not support.
        return None


def safe_target(call: Call, url: str, status: int, headers: Mapping[str, str]) -> str | None:
    """Return the URL to which a redirect may be followed, or ``None``.

    The target must have the same origin, or be the same host with https instead of http. A request other than GET is
    redirected only by 307 and 308, which preserve its method.

    :param url: the URL that was redirected.
    """
    location = headers.get("location")
    followed = (307, 308) if call.method != "GET" else (301, 302, 303, 307, 308)
    if status not in followed or location is None:
        return None
    try:
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
    except ValueError:
        # Of urljoin() or urlsplit(), for example for ``http://[``.
        return None
    same = (old.scheme, old.netloc) == (new.scheme, new.netloc)
    # The ports differ, as 80 and 443 do, so that only the hosts are compared.
    upgraded = (old.scheme, new.scheme) == ("http", "https") and old.hostname == new.hostname
    return target if same or upgraded else None


def brief(value: object, redact: Callable[[str], str]) -> str:
    """Return a response, or a part of one, as one short line that is safe for the task log."""
    return sanitize(" ".join(redact(str(value)).split()), length=MAX_SHOWN)


def is_html(headers: Mapping[str, str], text: str) -> bool:
    """Whether a body is an HTML page, such as those of proxies and login pages."""
    return "text/html" in headers.get("content-type", "").lower() or text[:200].lstrip().lower().startswith(
        ("<!doctype", "<html")
    )


def _missing_gpus(text: str) -> str | None:
    """Return the message and details of a response that GPUs are unavailable; ``None`` for any other response."""
    value = _parsed(text)
    if isinstance(value, dict) and isinstance(value.get("detail"), dict):
        value = value["detail"]
    if not isinstance(value, dict) or value.get("error_type") != GPU_UNAVAILABLE:
        return None
    facts = ", ".join(
        f"{name}: {fact if isinstance(fact, str) else json.dumps(fact)}"
        for name, fact in value.items()
        if name not in ("message", "error_type")
    )
    message = str(value.get("message") or "The requested GPUs are not available")
    return f"{message} ({facts})" if facts else message


def _parsed(text: str) -> Any:
    """Return the value of a JSON text, or ``None`` if it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _shown_target(location: str | None) -> str:
    """Return the target of a redirect without user, password, parameters, query and fragment, which may be secret."""
    try:
        parts = urlsplit(location or "")
        # It raises a ValueError if the port is no number.
        _ = parts.port
    except ValueError:
        return "an invalid URL"
    host, path = parts.netloc.rpartition("@")[2], re.sub(r";[^/]*", "", parts.path)
    if parts.scheme in ("http", "https") and host:
        return f"{parts.scheme}://{host}{path}"
    # Relative to the URL of the request.
    if not parts.scheme and (host or path.startswith("/")):
        return f"//{host}{path}" if host else path
    return "an invalid URL" if location else "nowhere"
