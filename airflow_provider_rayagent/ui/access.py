"""Who may call which route: Airflow's own permissions.

The application is mounted in that of Airflow, which does not check access there. Each route needs one of these
dependencies. Those of Airflow that read ``request.app.state`` do not work in a mounted application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import (
    requires_access_connection,
    requires_access_dag,
    requires_authenticated,
)
from airflow.configuration import conf
from fastapi import Depends, HTTPException, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return site is not None
    netloc = urlsplit(origin).netloc
    return netloc != "" and netloc in (headers.get("host"), urlsplit(base_url).netloc)


SIGNED_IN = (Depends(requires_authenticated()),)
READ_CONNECTION = (Depends(requires_access_connection("GET")),)
"""For routes with the path parameter ``connection_id``."""
EDIT_CONNECTION = (*READ_CONNECTION, Depends(requires_access_connection("PUT")), Depends(check_same_origin))
READ_TASK_LOGS = (Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS)),)
"""For routes with the path parameter ``dag_id``."""
