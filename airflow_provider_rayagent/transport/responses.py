"""Parse the agent's responses: return a value of the expected shape, or raise an error that shows what was received."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentGPUUnavailableError,
    RayAgentRedirectError,
    RayAgentResponseError,
    for_status,
)
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.connection.config import AgentConfig
    from airflow_provider_rayagent.services.call import Call

MAX_SHOWN = 300
"""Characters of a body that an error message shows."""
MAX_PAGE = 65_536
"""Characters of an HTML page that are searched for its title or text."""
MAX_REDIRECTS = 3
GPU_UNAVAILABLE = "gpu_unavailable"
"""The ``error_type`` of a 503 that is not an outage: the cluster lacks the requested GPUs."""

_TAG = re.compile(r"<([^<>]*)>")
"""An HTML tag. Excluding ``<`` keeps the search linear: otherwise 64 KB of ``<`` would take two seconds."""


def read_response(
    call: Call,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    config: AgentConfig,
    loads: Callable[[str], Any] = json.loads,
) -> Any:
    """Return the value of a response (a dict, a list of dicts, or ``None``, depending on ``call.shape``), converted.

    For the shape ``any``, an object is returned as is, an empty body or ``null`` as ``{}``, and anything else as
    ``{"answer": …}``.

    :param headers: the headers of the response, a case-insensitive mapping.
    :param config: the connection, with the service and the secrets to redact in error messages.
    :param loads: parses JSON.
    :raises RayAgentHTTPError: for an error status.
    :raises RayAgentRedirectError: for a redirect that was not followed.
    :raises RayAgentResponseError: for a body of another type or shape.
    """
    check_status(call, status, headers, body, config)
    value = _value(call, status, headers, body, config, loads)
    if call.convert is None:
        return value
    try:
        return call.convert(value)
    except RayAgentError as error:
        # It may quote the response.
        raise type(error)(brief(error.detail, config.redact), error.status_code) from None


def _value(
    call: Call,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    config: AgentConfig,
    loads: Callable[[str], Any],
) -> Any:
    if call.shape == "nothing":
        return None
    text = body.decode("utf-8", "replace").strip()
    where = f"{call.name} answered {status}"
    if call.shape == "any" and not is_html(headers, text):
        value = {} if text in ("", "null") else _parsed(text)
        return value if isinstance(value, dict) else {"answer": text if value is None else value}
    if not text:
        raise RayAgentResponseError(f"{where} with an empty body; expected JSON.", status)
    if is_html(headers, text):
        raise html_page_error(call, status, "JSON", config, text)
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        # ``json`` raises RecursionError for deeply nested values.
        raise RayAgentResponseError(f"{where} with invalid JSON: {brief(text, config.redact)}", status) from None
    if call.shape == "list":
        # The agent's format is not documented; both forms are accepted.
        if isinstance(value, dict) and isinstance(value.get("results"), list):
            value = value["results"]
        valid = isinstance(value, list) and all(isinstance(item, dict) for item in value)
        expected = "a JSON list of objects"
    else:
        valid, expected = isinstance(value, dict), "a JSON object"
    if not valid:
        raise RayAgentResponseError(f"{where}: expected {expected}, got: {brief(text, config.redact)}", status)
    return value


def html_page_error(
    call: Call, status: int, expected: str, config: AgentConfig, page: str = ""
) -> RayAgentResponseError:
    """Return the error for an HTML page with a 2xx status.

    :param expected: what should have been received.
    :param page: the page, whose title or text is shown.
    """
    message = (
        f"{call.name} answered {status}: expected {expected}, got an HTML page; is this the URL of "
        f"{config.service.label}? {brief(_page_text(page), config.redact)}"
    )
    return RayAgentResponseError(message.rstrip(), status)


def check_status(call: Call, status: int, headers: Mapping[str, str], body: bytes, config: AgentConfig) -> None:
    """Raise the error for a status other than 2xx.

    :raises RayAgentHTTPError: for an error status; :class:`RayAgentGPUUnavailableError` if GPUs are unavailable.
    :raises RayAgentRedirectError: for a redirect.
    :raises RayAgentResponseError: for a 404 that the service itself did not send.
    """
    config.clock.note(headers.get("date"))
    if 200 <= status < 300:
        return
    where = f"{call.name} answered {status}"
    if status < 400:
        target = headers.get("location", "nowhere")
        raise RayAgentRedirectError(
            f"{where}, a redirect to {brief(target, config.redact)}; not followed, so that the token is not sent "
            f"there. If that is the URL of {config.service.label}, enter it in the connection.",
            status,
        )
    text = body.decode("utf-8", "replace").strip()
    missing = _missing_gpus(text) if status == 503 else None
    if missing is not None:
        raise RayAgentGPUUnavailableError(f"{where}: {brief(missing, config.redact)}", status)
    page = is_html(headers, text)
    error_response = config.service.read_error(status, text)
    if status == 404 and (page or not error_response.is_own):
        # A wrong path, or the default page of an ingress: it does not mean that the job does not exist.
        raise RayAgentResponseError(
            f"{where}, but not in the form of {config.service.label}; is this its URL? "
            f"{brief(_page_text(text) if page else error_response.reason, config.redact)}",
            status,
        )
    reason = _page_text(text) if page else error_response.reason
    error = for_status(error_response.status, f"{where}: {brief(reason, config.redact)}" if reason else f"{where}.")
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


def _page_text(text: str) -> str:
    """Return the title of an HTML page or, if it has none, its text."""
    title, words = "", []
    within = ""
    # Odd parts are tags, even ones the text between them.
    for number, part in enumerate(_TAG.split(text[:MAX_PAGE])):
        if number % 2:
            tag = (part[:20].lower().split() or [""])[0]
            if not within and tag in ("title", "style", "script"):
                within = tag
            elif tag == f"/{within}":
                within = ""
        elif within == "title":
            title = title or part.strip()
        elif not within:
            words.append(part)
    return title or " ".join(words)
