"""Requests to Ray's state API (``/api/v0``), which lists nodes, tasks, actors and so on. Pure.

Sources are named by their file in the ``ray`` package.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError
from airflow_provider_rayagent.services import ray_responses
from airflow_provider_rayagent.services.call import Call
from airflow_provider_rayagent.services.service import (
    JOB_SUPERVISOR,
    LOOK_REQUEST_SECONDS,
    MAX_ROWS,
    WAITING_STATE,
)
from airflow_provider_rayagent.services.validation import validate_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A whole number: Ray reads it with int() (``dashboard/state_api_utils.py``), and 2.50 answers any other one with 500.
STATE_SECONDS = 7
"""Deadline that the state API has for its sources; the default read timeout of a connection is 10 s."""
MAX_ATTEMPTS = 100
"""Rows about one task or one process."""
FAILED_TASKS_SECONDS = 5
"""Deadline for what a look at a failed job cannot do without."""
MAX_STDERR_BYTES = 262_144
"""Size of the last lines of a process; longer ones are not read."""

# Ray's ids in hexadecimal digits: 28 bytes of a node or a worker, 24 of a task (``NodeID.size()`` and others).
_ID_FORMS = {
    "node": re.compile(r"[0-9a-f]{56}", re.IGNORECASE),
    "task": re.compile(r"[0-9a-f]{48}", re.IGNORECASE),
    "worker": re.compile(r"[0-9a-f]{56}", re.IGNORECASE),
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

    :param resource: a path of the state API, such as ``nodes``.
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


class RayNodeRecords:
    """See :class:`.NodeRecords`."""

    def node_usage(self, node_id: str) -> Call | None:
        if not _ID_FORMS["node"].fullmatch(node_id):
            return None
        # Measured every few seconds (``dashboard/modules/reporter/reporter_consts.py``).
        path = f"nodes/{node_id}"
        return Call("GET", path, convert=ray_responses.node_usage, read_timeout=LOOK_REQUEST_SECONDS)


class RayFailureRecords(RayNodeRecords):
    """See :class:`.FailureRecords`."""

    def failed_tasks(self, driver_job_id: str, limit: int) -> Call:
        # Both are filtered in Ray's control service (GCS), so the time does not depend on the number of other tasks.
        # But the dashboard converts up to 10,000 rows, whatever the limit (``dashboard/state_aggregator.py``), which
        # takes 3.5 seconds of one core.
        call = _look("tasks", limit, job_id=driver_job_id, state="FAILED")
        return replace(call, read_timeout=FAILED_TASKS_SECONDS)

    def dead_actors(self, driver_job_id: str, limit: int) -> Call:
        return _look("actors", limit, job_id=driver_job_id, state="DEAD")

    def nodes(self) -> Call:
        return _look("nodes", MAX_ROWS)

    def attempts(self, task_id: str) -> Call | None:
        return _look("tasks", MAX_ATTEMPTS, task_id=task_id) if _ID_FORMS["task"].fullmatch(task_id) else None

    def workers(self, node_id: str, pid: int | None, worker_id: str) -> Call | None:
        if _ID_FORMS["worker"].fullmatch(worker_id):
            return _look("workers", 1, worker_id=worker_id)
        if pid is None or not _ID_FORMS["node"].fullmatch(node_id):
            return None
        # Another process can have had the same pid.
        return _look("workers", MAX_ATTEMPTS, node_id=node_id, pid=str(pid))

    def last_stderr_lines(self, node_id: str, *, file: str, pid: int | None, lines: int) -> Call | None:
        if not _ID_FORMS["node"].fullmatch(node_id) or not (file or pid):
            return None
        # By default, the file of a process is that of its standard output.
        which = {"filename": file} if file else {"pid": pid, "suffix": "err"}
        query = {"node_id": node_id, **which, "lines": lines, "timeout": LOOK_REQUEST_SECONDS}
        return Call(
            "GET",
            f"api/v0/logs/file?{urlencode(query)}",
            "text",
            read_timeout=LOOK_REQUEST_SECONDS,
            max_bytes=MAX_STDERR_BYTES,
        )


class RayActivityRecords(RayNodeRecords):
    """See :class:`.ActivityRecords`."""

    def waiting_tasks(self, driver_job_id: str, limit: int) -> Call:
        # Both are filtered in the GCS, as the tasks below.
        return _look("tasks", limit, job_id=driver_job_id, state=WAITING_STATE)

    def running_tasks(self, driver_job_id: str, limit: int) -> Call:
        return _look("tasks", limit, job_id=driver_job_id, state="RUNNING")

    def running_attempts(self, driver_job_id: str) -> Call:
        return _look("tasks", MAX_ROWS, detail=False, job_id=driver_job_id, state="RUNNING")

    def pending_jobs(self) -> Call:
        return _look("actors", MAX_ROWS, class_name=JOB_SUPERVISOR, state="PENDING_CREATION")

    def live_actors(self, limit: int) -> Call:
        return _look("actors", limit, state="ALIVE")

    def tasks_of_all(self, limit: int) -> Call:
        return _look("tasks", limit, state="RUNNING")

    def placement_groups(self) -> Call:
        return _look("placement_groups", MAX_ROWS)

    def runtime_environments(self) -> Call:
        return _look("runtime_envs", MAX_ROWS)

    def cluster_status(self) -> Call:
        # Written by Ray's monitor every 5 seconds (``AUTOSCALER_UPDATE_INTERVAL_S`` in ``_private/ray_constants.py``).
        return Call("GET", "api/cluster_status", convert=ray_responses.cluster_status)

    def executed_tasks(self) -> Call:
        # Counted by the workers, and asked for every 15 seconds (``NODE_STATS_UPDATE_INTERVAL_SECONDS`` in
        # ``dashboard/modules/node/node_consts.py``).
        return Call(
            "GET", "nodes?view=summary", convert=ray_responses.executed_tasks, read_timeout=LOOK_REQUEST_SECONDS
        )

    def finished_tasks(self, driver_job_id: str) -> Call:
        call = _look("tasks", 1, detail=False, job_id=driver_job_id, state="FINISHED")
        return replace(call, convert=ray_responses.number_of_rows)

    def allows_stacks(self) -> Call:
        # Since Ray 2.60; 404 before (``dashboard/modules/reporter/reporter_head.py``).
        path = "api/profiling_enabled"
        return Call("GET", path, convert=ray_responses.profiling_is_enabled, read_timeout=LOOK_REQUEST_SECONDS)

    def stack(self, node_id: str, pid: int) -> Call | None:
        if not _ID_FORMS["node"].fullmatch(node_id):
            return None
        # Not ``task/traceback``, which finds the process of a task by three more requests of its own, and then gives
        # the stack of the process.
        path = f"worker/traceback?{urlencode({'pid': pid, 'node_id': node_id})}"
        return Call("GET", path, "text", read_timeout=LOOK_REQUEST_SECONDS, max_bytes=MAX_STDERR_BYTES)


def _look(resource: str, limit: int, *, detail: bool = True, **equals: str) -> Call:
    call = rows_of(resource, limit=limit, detail=detail, seconds=LOOK_REQUEST_SECONDS, equals=equals)
    return replace(call, read_timeout=LOOK_REQUEST_SECONDS + 1)
