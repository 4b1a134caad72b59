"""URLs of web pages about a job, from the templates in a connection. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_rayagent.connection.admitted_clusters import PLACEHOLDER
from airflow_provider_rayagent.connection.fields import field_name
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.services.jobs import has_ended, milliseconds, node_of
from airflow_provider_rayagent.services.validation import is_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.connection.admitted_clusters import Address

JOB_PAGE = "job_url"
PAGES = (JOB_PAGE, "metrics_url", "logs_url", "history_url")
"""The fields of a connection that have a template."""
PLACEHOLDERS = ("{job_id}", "{node_id}", "{cluster}", "{host}", "{start}", "{end}")
NOW = "now"
"""The end of a job that has not ended, as Grafana accepts it in place of milliseconds."""

_PAGE = re.compile(r"https?://[^\s/?#\\]+([/?#]\S*)?")
_PLACEHOLDER = re.compile(r"\{\w*\}")
_NAMES = "|".join(placeholder[1:-1] for placeholder in PLACEHOLDERS)
_NOT_FILLED = re.compile(
    # What Python or Jinja would fill in, and a brace without the other one; not a selector such as {cluster="a"}.
    rf"\{{(?:{_NAMES})\b(?!\}}|=|![=~]|%)[^{{}}/?&#]{{0,30}}\}}?|\{{\{{(?:{_NAMES})\}}+|(?<=[/=&?#])(?:{_NAMES})\}}"
)
_EXAMPLES = {
    JOB_PAGE: "https://ray.example.com/#/jobs/{job_id}",
    "metrics_url": "https://grafana.example.com/d/rayDefaultDashboard?from={start}&to={end}",
    "logs_url": "https://logs.example.com/?job={job_id}&from={start}&to={end}",
    "history_url": "https://history.example.com/{host}/jobs/{job_id}",
}


def read_pages(extra: Mapping[str, object], job_page: str, cluster: Address | None) -> tuple[dict[str, str], list[str]]:
    """Return the valid templates in a connection by field, and what is wrong with the others.

    :param extra: the connection's extra.
    :param job_page: template of the job's page in the service, for a connection without :data:`JOB_PAGE`; may be empty.
    :param cluster: the cluster in the URL of the service, which host names of pages may have too.
    """
    templates, problems = {JOB_PAGE: job_page}, []
    for name in PAGES:
        if name in extra:
            try:
                templates[name] = _with_cluster(name, validate_template(name, extra[name]), cluster)
            except RayAgentConfigError as error:
                templates[name] = ""
                problems.append(error.detail)
    return templates, problems


def _with_cluster(name: str, template: str, cluster: Address | None) -> str:
    """Return a template with the cluster in its host name, which :func:`fill` would encode."""
    if PLACEHOLDER not in template:
        return template
    if cluster is None:
        raise RayAgentConfigError(
            f"The connection's {field_name(name)} has {PLACEHOLDER} in it, but its {field_name('host')} has not; "
            "{host} is the host and port of that."
        )
    netloc = urlsplit(template).netloc
    return template.replace(netloc, netloc.replace(PLACEHOLDER, cluster.netloc), 1)


def validate_template(name: str, value: object) -> str:
    """Return the template in a field of a connection.

    :param name: one of :data:`PAGES`.
    :raises RayAgentConfigError: if it is invalid; the message has no password.
    """
    called = f"The connection's {field_name(name)}"
    text = value.strip() if isinstance(value, str) else ""
    is_job_page = name == JOB_PAGE
    if not is_web_page(text) or (is_job_page and "{job_id}" not in text):
        needed = " with {job_id} in it" if is_job_page else ""
        raise RayAgentConfigError(f"{called} must be an http or https URL{needed}, such as {_EXAMPLES[name]}.")
    if not has_plain_host(text):
        raise RayAgentConfigError(
            f"{called} has an invalid port, or a user name or password, which everyone who sees the task would see."
        )
    for placeholder in (*_NOT_FILLED.findall(text), *_PLACEHOLDER.findall(text)):
        if placeholder not in PLACEHOLDERS:
            known = f"{', '.join(PLACEHOLDERS[:-1])} and {PLACEHOLDERS[-1]}"
            raise RayAgentConfigError(f"{called} has {placeholder} in it, but only {known} are filled in.")
        # A host is not decoded, so that an encoded value would not be found. A job id is never changed by encoding.
        if placeholder in urlsplit(text).netloc and placeholder not in ("{job_id}", PLACEHOLDER):
            raise RayAgentConfigError(
                f"{called} has {placeholder} in its host name, where only {{job_id}} and {PLACEHOLDER} can be."
            )
    return text


def is_web_page(text: str) -> bool:
    """Whether a text has the form of an http or https URL."""
    return bool(_PAGE.fullmatch(text)) and text.isprintable()


def has_plain_host(url: str) -> bool:
    """Whether a URL has a valid port, or none, and neither a user name nor a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # The port is not a number, but perhaps a password with a "/".
        return False
    return "@" not in parts.netloc and port != 0


def page_values(
    job_id: str,
    base_url: str,
    job: Mapping[str, Any] | None = None,
    *,
    cluster: str | None = None,
    start: float | None = None,
    redact: Callable[[str], str] = str,
) -> dict[str, str]:
    """Return the values of the placeholders, as far as they are known.

    :param base_url: URL of the service.
    :param job: the details of the job; ``None``: not known.
    :param cluster: the cluster in that URL; ``None``: it has none.
    :param redact: redacts the secrets of the connection.
    :param start: time (seconds since the epoch) that stands for the start of the job while that is unknown.
    """
    job = job or {}
    started, ended = milliseconds(job.get("start_time")), milliseconds(job.get("end_time"))
    if started is None and start is not None:
        started = start * 1000
    found = {
        "{job_id}": job_id if is_id(job_id) else None,
        "{node_id}": node_of(job, redact),
        PLACEHOLDER: cluster,
        "{host}": urlsplit(base_url).netloc,
        "{start}": None if started is None else f"{started:.0f}",
        "{end}": f"{ended:.0f}" if ended is not None and has_ended(job) else NOW,
    }
    return {placeholder: value for placeholder, value in found.items() if value is not None}


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return a template with values in place of its placeholders, empty if one of these values is not known.

    A value cannot add anything to the structure of the URL: it is percent-encoded, ``/`` included.
    """
    needed = [placeholder for placeholder in PLACEHOLDERS if placeholder in template]
    if any(placeholder not in values for placeholder in needed):
        return ""
    # UTF-8 cannot encode a lone surrogate.
    encoded = {placeholder: quote(values[placeholder], safe="", errors="replace") for placeholder in needed}
    # In one pass, since a value may look like a placeholder.
    return _PLACEHOLDER.sub(lambda found: encoded.get(found[0], found[0]), template)
