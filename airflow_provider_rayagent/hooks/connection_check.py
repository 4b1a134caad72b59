"""The checks behind the test of a connection and ``airflow rayagent doctor``: what is wrong, and what to correct."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.connection.config import UNENCRYPTED
from airflow_provider_rayagent.connection.fields import field_name
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentHTTPError,
    RayAgentNotFoundError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.services.service import REJECTED
from airflow_provider_rayagent.text.sentences import sentence
from airflow_provider_rayagent.transport.other_service import identity_of
from airflow_provider_rayagent.transport.responses import brief

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient

# The form of an agent's health is not specified: these words are a problem, all others are not.
_UNHEALTHY = {"down", "error", "failed", "unavailable", "unhealthy", "disconnected", "false"}


class Result(str, Enum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    """It works, and puts something at risk."""
    PROBLEM = "WRONG"
    NOT_APPLICABLE = "-"


class Finding(NamedTuple):
    """What a check has found.

    :param check: name of the check.
    :param text: one line for the user: what is right, or what to correct.
    """

    check: str
    result: Result
    text: str


def check_connection(client: BlockingServiceClient) -> Iterator[Finding]:
    """Yield whether the connection works; if it does, whether its links do.

    :raises RayAgentConfigError: if the connection is invalid.
    """
    service = client.config.service
    try:
        health = client.send(service.health_check())
        client.send(service.check_usable())
    except RayAgentError as error:
        yield Finding("connection", Result.PROBLEM, explain_failure(client, error))
        return
    connection = _check_health(client.config, health)
    yield connection
    if connection.result is not Result.PROBLEM:
        yield _check_links(client.config)


def explain_failure(client: BlockingServiceClient, error: RayAgentError) -> str:
    """Return what to correct: the proxy, the service, the token or the tenant."""
    config = client.config
    if error.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return (
            f"{sentence(error.detail)} Correct user and password of the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY."
        )
    if isinstance(error, RayAgentHTTPError) and error.status_code in REJECTED:
        return _explain_refusal(client, error.status_code)
    if not isinstance(error, (RayAgentNotFoundError, RayAgentResponseError)):
        return error.detail
    what = f"The server at {config.base_url} is not {config.service.description}"
    return f"{what}: check the {field_name('host')}, its port and path. {error.detail}"


def _explain_refusal(client: BlockingServiceClient, status: int | None) -> str:
    config = client.config
    refusal = describe_refusal(config, status)
    if config.has_token and config.service is RAY and finish(identity_of(client, RAY)) is None:
        # A dashboard tells without a token what it is, but an agent does not.
        refusal = f"{refusal} If this is an agent, set {field_name('service')} to {AGENT.name}."
    return refusal


def describe_refusal(config: ServiceConfig, status: int | None) -> str:
    """Return what to correct in a connection whose token is missing or rejected, as far as that is known by itself.

    :param status: 401 or 403.
    """
    credentials = config.service.credentials
    if not config.has_token:
        field = field_name(credentials[0].field)
        return f"{_noun(config)} requires a token ({status}), but the connection has no {field}."
    fields = [each.field for each in credentials if each.header in config.headers]
    if config.token_file is not None:
        fields.insert(0, "token_file")
    return f"{_noun(config)} rejected the token ({status}): check the {' and the '.join(map(field_name, fields))}."


def _noun(config: ServiceConfig) -> str:
    label = config.service.label
    return f"{label[0].upper()}{label[1:]}"


def _check_health(config: ServiceConfig, health: Mapping[str, Any]) -> Finding:
    """Return whether the service and its Ray are healthy by their own report, and what puts the token at risk."""
    ray = health.get("ray")
    name = config.service.identity(health)
    if config.service is not RAY and isinstance(ray, Mapping) and ray.get("version"):
        name = f"{name} with Ray {ray['version']}"
    connected = f"Connected to {brief(name, config.redact)} at {config.base_url}"
    # For the same reason, ``ray`` may be an object or a word, or be called ``ray_status``.
    ray_status = ray.get("status") if isinstance(ray, Mapping) else health.get("ray_status", ray)
    for what, status in (("Ray", ray_status), (config.service.label, health.get("status"))):
        if status is False or str(status).lower() in _UNHEALTHY:
            text = f"{connected}, but it reports that {what} is {brief(status, config.redact)}."
            return Finding("connection", Result.PROBLEM, text)
    risk = UNENCRYPTED if config.exposes_token else ""
    if config.base_url.startswith("https:") and config.verify is False:
        risk = f"Its certificate is not verified: turn {field_name('verify')} on again."
    if risk:
        return Finding("connection", Result.WARNING, f"{connected}. {risk}")
    return Finding("connection", Result.OK, f"{connected}.")


def _check_links(config: ServiceConfig) -> Finding:
    if config.page_problems:
        return Finding("links", Result.PROBLEM, " ".join(config.page_problems))
    names = [field_name(name) for name, template in config.pages.items() if template]
    if not names:
        return Finding("links", Result.NOT_APPLICABLE, "The connection has no links to a job's pages.")
    return Finding("links", Result.OK, f"Jobs have links: {', '.join(names)}.")
