"""A Serve application, as a task in a worker looks it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.applications import find_by_name
from airflow_provider_rayagent.client.errors import RayAgentNotFoundError

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook


def find_application(hook: RayAgentHook, name: str) -> dict[str, Any] | None:
    """Return an application, ``None`` if the agent has no such application.

    :raises RayAgentError: if the agent could not be asked.
    """
    try:
        return hook.get_serve_application(name)
    except RayAgentNotFoundError:
        return find_by_name(hook.list_serve_applications(), name)
