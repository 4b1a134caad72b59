"""Ask Ray, after a job has FAILED, what it has recorded about the job's tasks, actors, processes and nodes. Pure.

Ray's workers report their tasks once a second, and a node that was killed is ALIVE for some seconds more
(``task_events_report_interval_ms`` and ``health_check_*`` in ``ray_config_def.h``).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.failures.causes import MAX_GROUPS, Group, grouped
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.failures.ray_records import Failure, crash_of, end_of_worker, failures_of
from airflow_provider_rayagent.services.call import Call, Pause
from airflow_provider_rayagent.services.cluster_resources import amount_of
from airflow_provider_rayagent.services.jobs import ended_at, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.services.call import Steps
    from airflow_provider_rayagent.services.service import Service

    Row = Mapping[str, Any]

LOOK_SECONDS = 5.0
"""How long a look may take; what it has found until then counts."""
MAX_REQUESTS = 30
MAX_ROWS = 1_000
"""Failed tasks, and dead actors, that are read."""
AGAIN_SECONDS = 2.0
"""Pause before a second look, if the first one finds no cause: the records may still be on their way."""
RECENT_SECONDS = 60.0
"""How long after a job's end its records may still be on their way, by a clock that may differ."""
MAX_SAMPLES = 3
"""Tasks of a group that are asked whether a later attempt of them succeeded."""
LAST_LINES = 20
"""Lines of standard error that are shown."""
READ_LINES = 200
"""Lines of standard error that are read: the report of a crash follows the lines before it."""

_DRIVER_ID = re.compile(r"[0-9a-f]{8}", re.IGNORECASE)
_NODE_IS_GONE = re.compile(r"Agent for node id: \w+ doesn't exist|Failed to query the data source")
"""Ray's answers for a log file of a node that is lost (``util/state/state_manager.py``)."""
_MARKER = re.compile(r":(?:job_id|task_name|actor_name):")
"""What a line begins with that Ray's workers write for its log monitor (``_private/worker.py``)."""


class FailureLook:
    """A look at Ray's records of a FAILED job.

    What it has found can be read at any time, also by another thread while it goes on.

    :param job: the job's details.
    :param now: seconds since the epoch.
    """

    def __init__(self, service: Service, job: Row, now: float) -> None:
        self.groups: Sequence[Group] = ()
        self.addresses: Mapping[str, str] = {}
        """IP addresses of nodes by their ids."""
        self.note = ""
        """Why there is no more, in one sentence; empty if nothing is missing."""
        self._job = job
        self._driver_id = str(job.get("job_id") or "")
        self._is_recent = now - (ended_at(job) or now) < RECENT_SECONDS
        self._records = service.failure_records
        self._label = service.label
        self._requests = 0

    def steps(self) -> Steps:
        """Return the operation, which raises no :class:`RayAgentError`."""
        try:
            yield from self._list()
        except RayAgentError as error:
            self.note = f"What Ray recorded about this job could not be read: {error.detail}"
            return
        yield from self._drop_retried()
        for index in range(min(len(self.groups), MAX_GROUPS)):
            yield from self._ask_process(index)
        if not self.groups:
            self.note = self._nothing()

    def _list(self) -> Steps:
        nodes = yield from self._send(self._records.nodes())
        self.addresses = {
            str(node["node_id"]): str(node["node_ip"]) for node in nodes if node.get("node_id") and node.get("node_ip")
        }
        has_driver = _DRIVER_ID.fullmatch(self._driver_id)
        for is_last in (not has_driver or not self._is_recent, True):
            tasks: Sequence[Row] = ()
            actors: Sequence[Row] | None = ()
            if has_driver:
                tasks = yield from self._send(self._records.failed_tasks(self._driver_id, MAX_ROWS))
                actors = yield from self._send(self._records.dead_actors(self._driver_id, MAX_ROWS))
            failures = failures_of(self._job, tasks, actors or (), nodes)
            self.groups = grouped(failures, is_at_least=len(tasks) >= MAX_ROWS)
            # What another failure followed from is reported by another process.
            if is_last or any(failure.part != "node" and not failure.follows for failure in failures):
                return
            yield Pause(AGAIN_SECONDS)

    def _nothing(self) -> str:
        if _DRIVER_ID.fullmatch(self._driver_id):
            return "Ray recorded no failed task, dead actor or lost node of this job."
        if "job_id" in self._job:
            return "Ray recorded no tasks or actors of this job: its program did not connect to Ray."
        return f"What Ray recorded about this job is not known: {self._label} does not name its driver."

    def _send(self, call: Call | None) -> Steps:
        """Return the result of a request; ``None`` if the service has none, or if there were too many."""
        if call is None or self._requests >= MAX_REQUESTS:
            return None
        self._requests += 1
        return (yield call)

    def _try(self, call: Call | None) -> Steps:
        """Return the result of a request that only adds something, or the error."""
        try:
            return (yield from self._send(call))
        except RayAgentError as error:
            return error

    def _drop_retried(self) -> Steps:
        """Drop the failed attempts of tasks of which a later attempt succeeded, or still ran at the end."""
        kept = []
        for number, group in enumerate(self.groups):
            if group.first.part != "task" or number >= MAX_GROUPS:
                kept.append(group)
                continue
            dropped = set()
            # The one with the most attempts has used up its retries, if any has.
            for sample in sorted(group.failures, key=lambda each: -each.attempt)[:MAX_SAMPLES]:
                rows = yield from self._try(self._records.attempts(sample.key))
                if not isinstance(rows, list) or not _has_later_attempt(rows, sample):
                    break
                dropped.add(sample.key)
            else:
                # All samples succeeded later, so this counts for the others too.
                dropped = {each.key for each in group.failures}
            left = tuple(each for each in group.failures if each.key not in dropped)
            if left:
                kept.append(replace(group, failures=left))
        self.groups = kept

    def _ask_process(self, index: int) -> Steps:
        """Ask why the process of a group's first failure ended, and what it wrote last."""
        group = self.groups[index]
        first = group.first
        if first.part == "node" or first.kind in (FailureKind.NODE_DIED, FailureKind.PREEMPTED):
            return
        if first.is_of_process or first.kind is FailureKind.OUT_OF_MEMORY or first.pid is None:
            group = yield from self._with_end(group)
        first = group.first
        call = self._records.last_stderr_lines(first.node_id, file=first.stderr_file, pid=first.pid, lines=READ_LINES)
        found = yield from self._try(call)
        if isinstance(found, RayAgentError) and _NODE_IS_GONE.search(found.detail) and first.is_of_process:
            group = group.with_first(kind=FailureKind.NODE_DIED, reason="its node stopped answering")
        elif isinstance(found, str):
            group = _with_lines(group, found)
        self.groups = [*self.groups[:index], group, *self.groups[index + 1 :]]

    def _with_end(self, group: Group) -> Steps:
        first = group.first
        workers = yield from self._try(self._records.workers(first.node_id, first.pid, first.worker_id))
        if not isinstance(workers, list) or not workers:
            return group
        worker = max(workers, key=lambda row: milliseconds(row.get("end_time_ms")) or 0.0)
        pid, node_id = worker.get("pid"), worker.get("node_id")
        changes: dict[str, Any] = {
            "pid": first.pid or (pid if isinstance(pid, int) and pid > 0 else None),
            "node_id": first.node_id or (node_id if isinstance(node_id, str) else ""),
            "at": first.at or milliseconds(worker.get("end_time_ms")),
        }
        is_told_by_worker = first.is_of_process or first.kind is FailureKind.OUT_OF_MEMORY
        if is_told_by_worker and (end := end_of_worker(worker)) is not None:
            changes["kind"], changes["reason"] = end
        return group.with_first(**changes)


def _has_later_attempt(rows: Sequence[Row], failure: Failure) -> bool:
    return any(
        row.get("state") != "FAILED" and (amount_of(row.get("attempt_number")) or 0.0) > failure.attempt for row in rows
    )


def _with_lines(group: Group, text: str) -> Group:
    lines = [line for line in text.splitlines() if line.strip() and not _MARKER.match(line)]
    crash = crash_of(lines)
    if crash is not None and group.first.is_of_process:
        name, index = crash
        # Its stack in native code is long, and tells a user less than what the program wrote before.
        lines = lines[: index + 1]
        group = group.with_first(reason=f"its process crashed with {name}", crashed_with=name)
    return replace(group, last_lines=tuple(lines[-LAST_LINES:]))
