"""Look up a Serve application from a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.applications import find_by_name
from airflow_provider_rayagent.client.errors import RayAgentNotFoundError

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook


def find_application(hook: RayAgentHook, name: str) -> dict[str, Any] | None:
    """Return an application, ``None`` if it does not exist.

    :raises RayAgentError: if the request fails.
    """
    try:
        return hook.get_serve_application(name)
    except RayAgentNotFoundError:
        return find_by_name(hook.list_serve_applications(), name)
