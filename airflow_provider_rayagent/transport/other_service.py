"""Find out whether another service than the configured one answers at the URL of a connection.

It is the likeliest mistake in a connection: most clusters have only Ray's own dashboard, and the default is an agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.connection.config import SERVICES
from airflow_provider_rayagent.connection.fields import field_name
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConfigError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.transport.responses import brief

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.service import Service
    from airflow_provider_rayagent.transport.service_client import ServiceClient


def may_be_of_another(error: RayAgentError) -> bool:
    """Whether an error can be the answer of another service, since it has no form of the configured one."""
    return isinstance(error, RayAgentResponseError) or (isinstance(error, RayAgentHTTPError) and error.is_foreign)


async def find_other_service(client: ServiceClient) -> RayAgentConfigError | None:
    """Return the error that says which other service answers, and what to correct; ``None`` if that is not known."""
    config = client.config
    # If the right service answers, only a credential or a path is wrong.
    if await identity_of(client, config.service) is not None:
        return None
    for other in SERVICES.values():
        if other is not config.service and (identity := await identity_of(client, other)) is not None:
            found = brief(identity, config.redact)
            return RayAgentConfigError(f"At {config.base_url} is {found}: set {field_name('service')} to {other.name}.")
    return None


async def identity_of(client: ServiceClient, service: Service) -> str | None:
    """Return what a service says it is; ``None`` if it does not answer."""
    try:
        # Once: somebody waits for the result, and that another service answers is only a guess.
        identity: str | None = await client.ask(service.identify(), tries=1)
    except RayAgentError:
        return None
    return identity
