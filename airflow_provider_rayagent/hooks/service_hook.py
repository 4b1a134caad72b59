"""What the blocking and the asyncio hook have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.hooks.log_lines import StreamLimits
from airflow_provider_rayagent.services.validation import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.services.call import Operation
    from airflow_provider_rayagent.services.service import Service

ResultT = TypeVar("ResultT")
Timeout = tuple[float, float]
"""Connect and read timeout in seconds."""


class ServiceHook(BaseHook):
    """A hook with the coroutines by which methods that are written once ask a service."""

    default_conn_name = "rayagent_default"

    def __init__(self, rayagent_conn_id: str = default_conn_name, *, cluster: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rayagent_conn_id = rayagent_conn_id
        self.cluster = cluster
        self._stream_limits = StreamLimits()

    @property
    def stream_limits(self) -> StreamLimits:
        """The limits of each log stream.

        :raises RayAgentInputError: if it is set to anything but :class:`StreamLimits`.
        """
        return self._stream_limits

    @stream_limits.setter
    def stream_limits(self, value: StreamLimits) -> None:
        if not isinstance(value, StreamLimits):
            raise RayAgentInputError(f"stream_limits must be StreamLimits, not {shown(value)}.")
        self._stream_limits = value

    async def _object(self, make: Callable[[Service], Operation], timeout: Timeout | None = None) -> dict[str, Any]:
        value: dict[str, Any] = await self._send(make, timeout)
        return value

    async def _list(self, make: Callable[[Service], Operation]) -> list[dict[str, Any]]:
        value: list[dict[str, Any]] = await self._send(make)
        return value

    async def _send(self, make: Callable[[Service], Operation], timeout: Timeout | None = None) -> Any:
        """Return the result of the operation that ``make`` returns for the service of the connection."""
        raise NotImplementedError

    async def _compute(self, function: Callable[[], ResultT]) -> ResultT:
        """Return the result of a function that is too slow for an event loop."""
        raise NotImplementedError
