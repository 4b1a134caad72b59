"""The hook of an operator or sensor."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook


class HookMixin:
    """Create the hook of an operator or sensor on first use."""

    rayagent_conn_id: str

    # Not in __init__, where the id of the connection may still be a template.
    @cached_property
    def hook(self) -> RayAgentHook:
        """The hook for the agent."""
        from airflow_provider_rayagent.hooks.rayagent import RayAgentHook

        return RayAgentHook(rayagent_conn_id=self.rayagent_conn_id)
