"""The connections to Ray that a user may read, the services that they name, and their hooks."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.api_fastapi.app import get_auth_manager
from airflow.models import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.utils.session import create_session
from asgiref.sync import sync_to_async
from sqlalchemy import select

from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError
from airflow_provider_rayagent.hooks.async_hook import RayAgentAsyncHook
from airflow_provider_rayagent.stream import long_json
from airflow_provider_rayagent.transport.pool import release
from airflow_provider_rayagent.ui.access import has_teams, may_use, team_of_connection
from airflow_provider_rayagent.ui.page_thread import rest

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from airflow_provider_rayagent.transport.aio import AsyncServiceClient

CONN_TYPE = "rayagent"
_ENV_PREFIX = "AIRFLOW_CONN_"
LINGER_SECONDS = 30.0
"""How long the connections to a service stay open after a request: a page that is open asks again every few seconds."""
_TEAM_SEPARATOR = "___"
"""In the name of a team's connection in the environment: ``AIRFLOW_CONN__TEAM___ID``."""
# The event loop itself keeps only weak references to its tasks (documentation of `asyncio.create_task`).
_lingering: set[asyncio.Task[None]] = set()


class PageHook(RayAgentAsyncHook):
    """The asyncio hook in the API server, with connections of the type ``rayagent`` only."""

    @classmethod
    async def aget_connection(cls, conn_id: str) -> Any:
        """Return a connection.

        :raises RayAgentNotFoundError: if there is no such connection of this type.
        """
        # By default of asgiref, all such calls share one thread, so one slow secrets backend would delay them all.
        connection = await sync_to_async(_connection, thread_sensitive=False)(conn_id)
        if connection is None:
            raise RayAgentNotFoundError(f"There is no connection {conn_id!r} of type Ray agent ({CONN_TYPE}).", 404)
        return connection

    async def get_async_conn(self) -> AsyncServiceClient:
        """Return the transport."""
        client = await super().get_async_conn()
        client.loads = _loads
        return client

    async def close(self) -> None:
        """Release the transport after :data:`LINGER_SECONDS`, so that the next request uses it, too."""
        client, self._client = self._client, None
        if client is not None:
            lingering = asyncio.create_task(_release_later(client, LINGER_SECONDS))
            _lingering.add(lingering)
            lingering.add_done_callback(_lingering.discard)


class ViewedService(NamedTuple):
    """A service that users look at.

    :param cluster: which one of a connection with several clusters.
    """

    connection_id: str
    cluster: str | None = None

    @property
    def name(self) -> str:
        """Its name in the page and in the paths of routes. No id of a connection has an ``@``."""
        return self.connection_id if self.cluster is None else f"{self.connection_id}@{self.cluster}"

    def hook(self) -> PageHook:
        """Return a hook for it, which refuses a cluster that the connection does not admit."""
        return PageHook(self.connection_id, cluster=self.cluster)


def readable_connections(user: BaseUser) -> list[str]:
    """Return the ids of the connections to Ray that a user may read.

    These are the connections of the database and of the environment; those of a secrets backend cannot be listed, nor
    those that a team has in the environment only: Airflow does not tell whose they are.
    """
    manager = get_auth_manager()
    # The scoped session belongs to the thread: closing it would end that of other code which runs in this thread.
    with create_session(scoped=False) as session:
        stored = set(session.scalars(select(Connection.conn_id).where(Connection.conn_type == CONN_TYPE)))
    # That returns connections of all types.
    found = stored & manager.get_authorized_connections(user=user, method="GET") if stored else set()
    # Airflow looks for the name in upper case (EnvironmentVariablesBackend), so the case is lost.
    names = {name.removeprefix(_ENV_PREFIX).lower() for name in os.environ if name.startswith(_ENV_PREFIX)}
    found |= {name for name in names if _connection(name) is not None and may_use(user, name, "GET")}
    return sorted(found)


def _loads(text: str) -> Any:
    return long_json.loads(text, each=_after_rest)


def _after_rest(element: Any) -> Any:
    rest()
    return element


async def _release_later(client: AsyncServiceClient, seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
    finally:
        await release(client)


def _connection(conn_id: str) -> Connection | None:
    # Else AIRFLOW_CONN__TEAM___ID is a connection `_team___id` of no team, unless Airflow refuses it, as 3.3.2 does.
    if has_teams() and _TEAM_SEPARATOR in conn_id:
        return None
    try:
        connection = Connection.get_connection_from_secrets(conn_id, team_of_connection(conn_id))
    except (AirflowNotFoundException, ValueError):
        return None
    return connection if connection.conn_type == CONN_TYPE else None
