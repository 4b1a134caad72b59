"""The test of a connection: what is wrong with it, and what to correct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.agent_service import AGENT
from airflow_provider_rayagent.client.answers import brief
from airflow_provider_rayagent.client.config import SERVICES
from airflow_provider_rayagent.client.errors import (
    RayAgentAuthenticationError,
    RayAgentConfigError,
    RayAgentError,
    RayAgentNotFoundError,
    RayAgentPermissionError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.client.fields import field_name
from airflow_provider_rayagent.client.ray_service import RAY

if TYPE_CHECKING:
    from airflow_provider_rayagent.client.blocking import BlockingAgent
    from airflow_provider_rayagent.client.config import AgentConfig
    from airflow_provider_rayagent.client.service import Service

_UNHEALTHY = {"down", "error", "failed", "unavailable", "unhealthy", "disconnected", "false"}


def check_connection(agent: BlockingAgent) -> tuple[bool, str]:
    """Return whether the connection works, and a message: the service's version, or what to correct."""
    config = agent.config
    service = config.service
    try:
        health = agent.send(service.health_check())
        agent.send(service.check_usable())
    except (RayAgentAuthenticationError, RayAgentPermissionError) as error:
        return False, _wrong_service(agent) or _describe_refusal(agent, error.status_code)
    except RayAgentConfigError as error:
        return False, error.detail
    except (RayAgentNotFoundError, RayAgentResponseError) as error:
        what = f"The server at {config.base_url} is not {service.description}"
        check = f"{what}: check the {field_name('host')}, its port and path. {error.detail}"
        return False, _wrong_service(agent) or check
    except RayAgentError as error:
        return False, error.detail
    healthy, message = _describe_health(config, health)
    try:
        config.job_link("job")
    except RayAgentConfigError as error:
        return False, f"{message} However, tasks will have no job link: {error.detail}" if healthy else message
    return healthy, message


def _wrong_service(agent: BlockingAgent) -> str | None:
    """Return which other service answers at the connection's URL, in a sentence; ``None`` if that is not known."""
    config = agent.config
    if _identity(agent, config.service) is not None:
        return None
    for other in SERVICES.values():
        if other is not config.service and (identity := _identity(agent, other)) is not None:
            found = brief(identity, config.redact)
            return f"At {config.base_url} is {found}: set {field_name('service')} to {other.name}."
    return None


def _identity(agent: BlockingAgent, service: Service) -> str | None:
    try:
        identity: str | None = agent.send(service.identify(), tries=1)
    except RayAgentError:
        return None
    return identity


def _describe_refusal(agent: BlockingAgent, status: int | None) -> str:
    config = agent.config
    service = config.service
    noun = f"{service.noun[0].upper()}{service.noun[1:]}"
    token = service.credentials[0]
    fields = [each.field for each in service.credentials if each.header in config.headers]
    if config.token_file is not None:
        fields.insert(0, "token_file")
    elif token.header not in config.headers:
        return f"{noun} requires a token ({status}), but the connection has no {field_name(token.field)}."
    refusal = f"{noun} rejected the token ({status}): check the {' and the '.join(map(field_name, fields))}."
    if service is RAY and _identity(agent, RAY) is None:
        # A dashboard tells without a token what it is, but an agent does not.
        return f"{refusal} If this is an agent, set {field_name('service')} to {AGENT.name}."
    return refusal


def _describe_health(config: AgentConfig, health: Mapping[str, Any]) -> tuple[bool, str]:
    url = config.base_url
    service = brief(config.service.identity(health), config.redact)
    ray = health.get("ray")
    ray_status = ray.get("status") if isinstance(ray, Mapping) else health.get("ray_status", ray)
    for what, status in (("Ray", ray_status), (config.service.noun, health.get("status"))):
        if status is False or str(status).lower() in _UNHEALTHY:
            return (
                False,
                f"Connected to {service} at {url}, but it reports that {what} is {brief(status, config.redact)}.",
            )
    return True, f"Connected to {service} at {url}."
