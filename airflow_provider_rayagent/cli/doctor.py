"""The checks of ``airflow rayagent doctor``, in an order in which each one builds on those before it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow import __version__ as airflow_version

from airflow_provider_rayagent import __version__
from airflow_provider_rayagent.cli.log_checks import check_job_log, check_stream
from airflow_provider_rayagent.connection.config import UNENCRYPTED
from airflow_provider_rayagent.connection.fields import field_name
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentConnectionRefusedError,
    RayAgentConnectTimeoutError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentNameResolutionError,
    RayAgentTLSError,
)
from airflow_provider_rayagent.hooks.connection_check import (
    REFUSALS,
    Finding,
    Result,
    check_access,
    check_health,
    check_links,
    explain_failure,
    explain_refusal,
)
from airflow_provider_rayagent.services.jobs import JobStatus, started_at
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.transport.blocking import BlockingAgent
from airflow_provider_rayagent.transport.environment import read_environment, shown_proxy
from airflow_provider_rayagent.transport.responses import brief
from airflow_provider_rayagent.transport.steps import finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_rayagent.connection.config import AgentConfig

    Job = Mapping[str, Any]

CHECKS = (
    "proxy",
    "address",
    "TLS",
    "service",
    "token",
    "health",
    "jobs",
    "job log",
    "WebSocket",
    "SSE",
    "links",
    "versions",
)
"""The checks, in the order of their lines; those that are skipped come last."""
_PROXY_VARIABLES = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY in the environment"
_PROXY_REFUSED = 407
_WRONG_ADDRESS = (RayAgentNameResolutionError, RayAgentConnectionRefusedError, RayAgentConnectTimeoutError)


class _FirstResponses(NamedTuple):
    """What the first requests have found.

    :param health: the health that the service reports; ``None`` if it was not received.
    :param jobs: its jobs; ``None`` if they were not received.
    :param failure: why not; ``None`` if both were received.
    """

    health: Mapping[str, Any] | None = None
    jobs: Sequence[Job] | None = None
    failure: Finding | None = None


def diagnose(config: AgentConfig, job_id: str | None = None) -> Iterator[Finding]:
    """Yield one finding for each of :data:`CHECKS`, as it is found.

    :param job_id: the job whose log is read; ``None``: the newest that runs, or the newest.
    :raises RayAgentInputError: for an invalid job id.
    """
    if job_id is not None:
        validate_job_id(job_id)
    missing = list(CHECKS)
    last_problem = ""
    for finding in _walk(config, job_id):
        missing.remove(finding.check)
        last_problem = finding.check if finding.result is Result.PROBLEM else last_problem
        yield finding
    for check in missing:
        yield Finding(check, Result.SKIPPED, f"Not checked, since {last_problem} is wrong.")


def _walk(config: AgentConfig, job_id: str | None) -> Iterator[Finding]:
    """Yield findings until one of them prevents all checks after it."""
    try:
        environment = read_environment(config)
    except RayAgentConfigError as error:
        yield Finding("TLS", Result.PROBLEM, error.detail)
        return
    try:
        proxy = environment.proxy(config.base_url)
    except RayAgentConfigError as error:
        yield Finding("proxy", Result.PROBLEM, error.detail)
        return
    with BlockingAgent(config) as agent:
        first = _send_first_requests(agent, proxy)
        for finding in _access_findings(agent, first, proxy):
            yield finding
            # All checks after this one would fail for the same reason.
            if finding is first.failure:
                return
        if first.health is not None and first.jobs is not None:
            yield from _log_findings(agent, first.jobs, job_id)
            yield check_links(config)
            yield _versions(config, first.health)


def _send_first_requests(agent: BlockingAgent, proxy: str | None) -> _FirstResponses:
    try:
        health = check_access(agent)
    except RayAgentError as error:
        return _FirstResponses(failure=_explain(agent, error, proxy))
    try:
        return _FirstResponses(health, agent.send(agent.config.service.list_jobs()))
    except REFUSALS as error:
        return _FirstResponses(health, None, explain_refusal(agent, error.status_code))
    except RayAgentError as error:
        return _FirstResponses(health, None, Finding("jobs", Result.PROBLEM, error.detail))


def _explain(agent: BlockingAgent, error: RayAgentError, proxy: str | None) -> Finding:
    """Return what to correct after a failure of the first request, and which check it belongs to."""
    config = agent.config
    if proxy is not None and error.status_code == _PROXY_REFUSED:
        text = f"The proxy {shown_proxy(proxy)} requires another user or password ({_PROXY_REFUSED})."
        return Finding("proxy", Result.PROBLEM, f"{text} Correct {_PROXY_VARIABLES}.")
    if isinstance(error, RayAgentConfigError):
        # A token file that was read has left its header; then the error is about the files for TLS.
        is_token = config.token_file is not None and not config.token_file.headers
        return Finding("token" if is_token else "TLS", Result.PROBLEM, error.detail)
    if not isinstance(error, RayAgentConnectionError):
        finding = explain_failure(agent, error)
        if proxy is None or _is_https(config) or not isinstance(error, RayAgentHTTPError):
            return finding
        # A proxy for http answers in its own name in the same way as the service.
        text = f"{finding.text} Or the proxy {shown_proxy(proxy)} refuses the request: then correct {_PROXY_VARIABLES}."
        return finding._replace(text=text)
    if isinstance(error, RayAgentTLSError):
        return Finding("TLS", Result.PROBLEM, error.detail)
    if proxy is not None:
        return Finding(
            "proxy", Result.PROBLEM, f"{error.detail} Correct {_PROXY_VARIABLES}, or ask who runs the proxy."
        )
    return Finding("address" if isinstance(error, _WRONG_ADDRESS) else "service", Result.PROBLEM, error.detail)


def _is_https(config: AgentConfig) -> bool:
    return config.base_url.startswith("https:")


def _access_findings(agent: BlockingAgent, first: _FirstResponses, proxy: str | None) -> Iterator[Finding]:
    """Yield the findings of the first requests in order, up to the failed one."""
    config, failure = agent.config, first.failure
    description = config.service.description
    found = [
        _proxy(proxy),
        Finding("address", Result.OK, f"{config.base_url} accepts connections."),
        _tls(config),
        Finding("service", Result.OK, f"{description[0].upper()}{description[1:]} answers."),
        _token(config),
    ]
    if first.health is not None:
        found.append(check_health(config, first.health))
    for finding in found:
        if failure is not None and finding.check == failure.check:
            break
        yield finding
    yield failure or Finding("jobs", Result.OK, f"The service lists its jobs: {len(first.jobs or ())}.")


def _proxy(proxy: str | None) -> Finding:
    if proxy is None:
        return Finding("proxy", Result.NOT_APPLICABLE, "Requests go through no proxy.")
    return Finding("proxy", Result.OK, f"Requests go through the proxy {shown_proxy(proxy)}.")


def _tls(config: AgentConfig) -> Finding:
    if not _is_https(config):
        if config.exposes_token:
            return Finding("TLS", Result.WARNING, UNENCRYPTED)
        return Finding("TLS", Result.NOT_APPLICABLE, "The URL is http: requests are sent without encryption.")
    if config.verify is False:
        return Finding(
            "TLS", Result.PROBLEM, f"The server's certificate is not verified: turn {field_name('verify')} on again."
        )
    return Finding("TLS", Result.OK, "The server's certificate is trusted.")


def _token(config: AgentConfig) -> Finding:
    if not config.has_token:
        return Finding("token", Result.OK, "The connection has no token, and the service requires none.")
    others = [each.field for each in config.service.credentials[1:] if each.header in config.headers]
    accepted = " and the ".join(["token", *map(field_name, others)])
    return Finding("token", Result.OK, f"The service accepts the {accepted}.")


def _log_findings(agent: BlockingAgent, jobs: Sequence[Job], job_id: str | None) -> Iterator[Finding]:
    chosen = job_id or _newest(jobs)
    streams = agent.config.service.streams
    if chosen is None:
        yield Finding("job log", Result.NOT_APPLICABLE, "The service has no job whose log can be read.")
    else:
        finding, has_text = finish(check_job_log(agent, validate_job_id(chosen)))
        yield finding
    for check in ("WebSocket", "SSE"):
        if streams is None:
            yield Finding(check, Result.NOT_APPLICABLE, "Logs of this service are read by polling, not as a stream.")
        elif chosen is None:
            yield Finding(check, Result.NOT_APPLICABLE, "The service has no job whose log can be read.")
        else:
            yield finish(check_stream(check, agent, streams, validate_job_id(chosen), has_text=has_text))


def _newest(jobs: Sequence[Job]) -> str | None:
    """Return the id of the newest job that runs, since only its streams show whether a proxy buffers; or the newest."""

    def rank(job: Job) -> tuple[bool, float]:
        start = started_at(job)
        return job.get("status") == JobStatus.RUNNING.value, start.timestamp() if start else 0.0

    submitted = [job for job in jobs if isinstance(job.get("submission_id"), str)]
    newest = max(submitted, key=rank, default=None)
    return None if newest is None else str(newest["submission_id"])


def _versions(config: AgentConfig, health: Mapping[str, Any]) -> Finding:
    ray = health.get("ray")
    version = ray.get("version") if isinstance(ray, dict) else None
    parts = [
        brief(config.service.identity(health), config.redact),
        *([f"Ray {brief(version, config.redact)}"] if version else []),
        f"provider {__version__}",
        f"Airflow {airflow_version}",
        f"Python {platform.python_version()}",
    ]
    return Finding("versions", Result.OK, f"{', '.join(parts)}.")
