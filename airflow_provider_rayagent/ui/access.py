"""Who may call which route: Airflow's own permissions.

The application is mounted in that of Airflow, which does not check access there. Each route needs one of these
dependencies. Those of Airflow that read ``request.app.state`` do not work in a mounted application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import (
    requires_access_connection,
    requires_access_dag,
    requires_authenticated,
)
from airflow.api_fastapi.logging.decorators import action_logging
from airflow.configuration import conf
from airflow.models import Connection, DagModel
from fastapi import Depends, HTTPException, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

OWN_HEADER = "X-Rayagent-Request"
"""A browser sends a header of this kind to another origin only if that origin permits it."""


def check_same_origin(request: Request) -> None:
    """Check that a request which changes something comes from our own page.

    :raises HTTPException: 403 if it does not.
    """
    if not is_own_request(request.headers, conf.get("api", "base_url", fallback="") or ""):
        raise HTTPException(403, "This request must come from the Ray page of this Airflow.")


def is_own_request(headers: Mapping[str, str], base_url: str) -> bool:
    """Whether a request has our header, and the origin of Airflow.

    :param headers: the headers of the request, with lower-case names.
    :param base_url: URL of this Airflow; a proxy may have replaced the host in the headers.
    """
    if OWN_HEADER.lower() not in headers:
        return False
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    # `same-site` does not suffice: another host of the domain may belong to somebody else.
    if site is not None and site != "same-origin":
        return False
    # One of the two must be there: browsers send Origin with POST and DELETE, and newer ones Sec-Fetch-Site as well.
    if origin is None:
        return site is not None
    netloc = urlsplit(origin).netloc
    # The origin `null`, such as that of a sandboxed frame, has no host.
    return netloc != "" and netloc in (headers.get("host"), urlsplit(base_url).netloc)


def recorded(event: str) -> tuple[Any, ...]:
    """Return the dependencies of a route that changes something: the access, and a row in Airflow's audit log.

    :param event: name of the event in the audit log.
    """
    return (*EDIT_CONNECTION, Depends(action_logging(event)))


def may_use(user: BaseUser, connection_id: str, *methods: ResourceMethod) -> bool:
    """Whether a user may use a connection with all of these methods."""
    details = ConnectionDetails(conn_id=connection_id, team_name=team_of_connection(connection_id))
    manager = get_auth_manager()
    return all(manager.is_authorized_connection(method=method, details=details, user=user) for method in methods)


def readable_dags(user: BaseUser, dag_ids: Iterable[str]) -> set[str]:
    """Return the DAGs whose task instances a user may read."""
    manager, entity = get_auth_manager(), DagAccessEntity.TASK_INSTANCE
    return {
        dag_id
        for dag_id in dag_ids
        if manager.is_authorized_dag(
            method="GET", access_entity=entity, details=DagDetails(id=dag_id, team_name=team_of_dag(dag_id)), user=user
        )
    }


def has_teams() -> bool:
    """Whether this Airflow has teams, to which connections and DAGs can belong."""
    return conf.getboolean("core", "multi_team", fallback=False)


def team_of_connection(connection_id: str) -> str | None:
    """Return the team that a connection of the database belongs to."""
    return Connection.get_team_name(connection_id) if has_teams() else None


def team_of_dag(dag_id: str) -> str | None:
    """Return the team that a DAG belongs to."""
    return DagModel.get_team_name(dag_id) if has_teams() else None


SIGNED_IN = (Depends(requires_authenticated()),)
READ_CONNECTION = (Depends(requires_access_connection("GET")),)
"""For routes with the path parameter ``connection_id``."""
EDIT_CONNECTION = (*READ_CONNECTION, Depends(requires_access_connection("PUT")), Depends(check_same_origin))
"""For routes that change something; use :func:`recorded`."""
READ_TASK_LOGS = (Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS)),)
"""For routes with the path parameter ``dag_id``."""
