"""Requests to Ray's state API (``/api/v0``), which lists nodes, tasks, actors and workers. Pure.

Sources are named by their file in the ``ray`` package.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError
from airflow_provider_rayagent.services import ray_responses
from airflow_provider_rayagent.services.call import Call
from airflow_provider_rayagent.services.validation import validate_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_ROWS = 10_000
"""Most rows that the state API gives (``RAY_MAX_LIMIT_FROM_API_SERVER`` in ``util/state/common.py``)."""
# A whole number: Ray reads it with int() (``dashboard/state_api_utils.py``), and 2.50 answers any other one with 500.
STATE_SECONDS = 7
"""Deadline that the state API has for its sources; the default read timeout of a connection is 10 s."""

# Ray's ids in hexadecimal digits: 28 bytes of a node, 24 of a task (``NodeID.size()``, ``TaskID.size()``).
_ID_FORMS = {
    "node": re.compile(r"[0-9a-f]{56}", re.IGNORECASE),
    "task": re.compile(r"[0-9a-f]{48}", re.IGNORECASE),
}


def rows_of(
    resource: str,
    convert: Callable[[Any], Any] = ray_responses.state_rows,
    *,
    limit: int = MAX_ROWS,
    detail: bool = False,
    seconds: int = STATE_SECONDS,
    equals: Mapping[str, str] | None = None,
) -> Call:
    """Return the request for the rows of a resource.

    :param resource: ``nodes``, ``tasks``, ``actors`` or ``workers``.
    :param detail: whether rows have all of their columns.
    :param seconds: deadline for Ray's sources.
    :param equals: values of columns, all of which a row must have.
    """
    # Without the first two, the state API gives 100 rows and takes up to 30 seconds (``dashboard/state_api_utils.py``).
    query: list[tuple[str, Any]] = [("limit", limit), ("timeout", seconds)]
    if detail:
        query.append(("detail", 1))
    for column, value in (equals or {}).items():
        query += [("filter_keys", column), ("filter_predicates", "="), ("filter_values", value)]
    return Call("GET", f"api/v0/{resource}?{urlencode(query)}", convert=convert)


def row_of(kind: str, value: str) -> Call:
    """Return the request for one node or task.

    :param kind: ``node`` or ``task``.
    """
    value = validate_id(value, kind)
    what = f"Ray {kind} {value}"
    if not _ID_FORMS[kind].fullmatch(value):
        # Ray 2.50 answers 500 to an id that is none of its own.
        raise RayAgentNotFoundError(f"{what} does not exist.", 404)
    return rows_of(f"{kind}s", ray_responses.one_row(what), detail=True, equals={f"{kind}_id": value})
