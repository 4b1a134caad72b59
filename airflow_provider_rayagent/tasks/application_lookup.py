"""Look up a Serve application from a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError
from airflow_provider_rayagent.services.application_wait import find_by_name

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook


def find_application(hook: RayAgentHook, name: str) -> dict[str, Any] | None:
    """Return an application, ``None`` if it does not exist.

    :raises RayAgentError: if the request fails.
    """
    try:
        return hook.get_serve_application(name)
    except RayAgentNotFoundError:
        # A 404 may also come from a wrong path or a proxy; only the list shows that the application does not exist.
        return find_by_name(hook.list_serve_applications(), name)
