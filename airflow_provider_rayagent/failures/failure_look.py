"""Ask Ray, after a job has FAILED, what it has recorded about the job's tasks, actors, processes and nodes. Pure.

Ray's workers report their tasks once a second, and a node that was killed is ALIVE for some seconds more
(``task_events_report_interval_ms`` and ``health_check_*`` in ``ray_config_def.h``).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.failures.causes import MAX_GROUPS, Group, grouped, in_order, last_within
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.failures.lost_nodes import lost_nodes, with_kind_of_node
from airflow_provider_rayagent.failures.ray_records import (
    Failure,
    failures_of,
    succeeded_later,
    with_end_of_worker,
    with_memory_of_node,
)
from airflow_provider_rayagent.services.call import Call, Pause
from airflow_provider_rayagent.services.jobs import ended_at, milliseconds
from airflow_provider_rayagent.services.ray_responses import NodeUsage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.services.call import Steps
    from airflow_provider_rayagent.services.service import Service

    Row = Mapping[str, Any]

LOOK_SECONDS = 5.0
"""How long a look may take; what it has found until then counts."""
MAX_REQUESTS = 30
MAX_FAILURES = 1_000
"""Failed tasks, and dead actors, that are read."""
AGAIN_SECONDS = 2.0
"""Pause before a second look, if the first one finds no cause: the records may still be on their way."""
RECENT_SECONDS = 60.0
"""How long after a job's end its records may still be on their way, by a clock that may differ."""
MAX_CHECKS = 12
"""Failures that are asked whether a later attempt of them succeeded."""
MAX_CHECKS_OF_GROUP = 3
READ_LINES = 200
"""Lines of standard error that are read: the report of a crash follows the lines before it."""
MAX_CRASH_REPORT = 100
"""Lines of the report of a crash; what is further from the end was survived."""
MAX_LINE = 4_000
"""Characters of a line that are kept."""
KEPT_LINES = 100
"""More than are shown: a secret of several lines is recognized as a whole only."""
KEPT_CHARACTERS = 65_536

_DRIVER_ID = re.compile(r"[0-9a-f]{8}", re.IGNORECASE)
_NODE_IS_SILENT = re.compile(r"Agent for node id: \w+ doesn't exist|Failed to query the data source")
"""Ray's answers for a log file of a node that does not answer (``util/state/state_manager.py``)."""
_MARKER = re.compile(r":(?:job_id|task_name|actor_name):")
"""What a line begins with that Ray's workers write for its log monitor (``_private/worker.py``)."""
_FAULTS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating": "SIGFPE",
    "Illegal instruction": "SIGILL",
}
_CRASH = re.compile(
    # Written by Ray's handler of fatal signals (abseil's ``failure_signal_handler.cc``), and by faulthandler.
    rf"\*\*\* (SIG(?:SEGV|ABRT|BUS|FPE|ILL|TRAP)) received at time|Fatal Python error: ({'|'.join(_FAULTS)})"
)


class _CanceledError(Exception):
    """Nobody waits for the look any more."""


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
        self.is_complete = False
        """Whether another look would find the same."""
        self._job = job
        self._driver_id = str(job.get("job_id") or "")
        self._has_driver = _DRIVER_ID.fullmatch(self._driver_id) is not None
        self._is_recent = now - (ended_at(job) or now) < RECENT_SECONDS
        self._records = service.failure_records
        self._label = service.label
        self._usages: dict[str, Any] = {}
        """What nodes tell of their memory, by their ids; ``None`` or an error: nothing."""
        self._requests = 0
        self._is_canceled = False

    def cancel(self) -> None:
        """Send no more requests."""
        self._is_canceled = True

    def steps(self) -> Steps:
        """Return the operation, which raises no :class:`RayAgentError`."""
        try:
            yield from self._look()
        except _CanceledError:
            return
        except RayAgentError as error:
            self.note = f"What Ray recorded about this job could not be read: {error.detail}"

    def _look(self) -> Steps:
        yield from self._list()
        for ask in (self._ask_process, self._ask_memory):
            for index in range(min(len(self.groups), MAX_GROUPS)):
                group = yield from ask(self.groups[index])
                self.groups = [*self.groups[:index], group, *self.groups[index + 1 :]]
        self.groups = in_order(self.groups)
        if not self.groups:
            self.note = self._nothing()
        elif len(self.groups) > MAX_GROUPS:
            self.note = f"Ray recorded {len(self.groups) - MAX_GROUPS} more kinds of failures."
        self.is_complete = True

    def _list(self) -> Steps:
        """List what failed, without what a retry has completed."""
        nodes = yield from self._send(self._records.nodes())
        self.addresses = {
            str(node["node_id"]): str(node["node_ip"]) for node in nodes if node.get("node_id") and node.get("node_ip")
        }
        found: list[Failure] = []
        incomplete: list[str] = []
        for is_last in (not self._has_driver or not self._is_recent, True):
            if self._has_driver:
                tasks = yield from self._send(self._records.failed_tasks(self._driver_id, MAX_FAILURES))
                actors = yield from self._send(self._records.dead_actors(self._driver_id, MAX_FAILURES))
                found = failures_of(self._job, tasks, actors or ())
                counts = {"task": len(tasks), "actor": len(actors or ())}
                incomplete = [part for part, count in counts.items() if count >= MAX_FAILURES]
            # What another failure followed from is reported by another process.
            if is_last or not all(failure.follows for failure in found):
                break
            yield Pause(AGAIN_SECONDS)
        groups = yield from self._without_retried(grouped(found, incomplete=incomplete))
        lost = lost_nodes(self._job, nodes, (failure for group in groups for failure in group.failures))
        of_nodes = {node.node_id: node for node in lost}
        groups = [
            replace(group, failures=tuple(with_kind_of_node(each, of_nodes) for each in group.failures))
            for group in groups
        ]
        self.groups = in_order([*groups, *grouped(lost)])

    def _nothing(self) -> str:
        if self._has_driver:
            return "Ray recorded no failed task, dead actor or lost node of this job's driver."
        if "job_id" in self._job and not self._driver_id:
            return "Ray recorded no tasks or actors of this job: its program did not connect to Ray."
        return f"What Ray recorded about this job is not known: {self._label} does not name its driver."

    def _send(self, call: Call | None) -> Steps:
        """Return the result of a request; ``None`` if the service has none, or if there were too many."""
        if self._is_canceled:
            raise _CanceledError
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

    def _without_retried(self, groups: Sequence[Group]) -> Steps:
        """Return groups without what a later attempt has completed, as far as that can be asked."""
        kept: list[Group] = []
        left = MAX_CHECKS
        for group in groups:
            dropped = set()
            # The one with the most attempts has used up its retries, if any has.
            samples = sorted(group.failures, key=lambda each: -each.attempt)[:MAX_CHECKS_OF_GROUP]
            for sample in samples if len(kept) < MAX_GROUPS else ():
                call = self._records.attempts(sample.task_id) if sample.task_id else None
                if left == 0 or call is None:
                    break
                left -= 1
                rows = yield from self._try(call)
                if isinstance(rows, list) and succeeded_later(rows, sample):
                    dropped.add(sample.key)
            # What is true of all samples counts for the others too.
            is_dropped = len(dropped) == len(samples)
            failures = tuple(each for each in group.failures if not is_dropped and each.key not in dropped)
            if failures:
                kept.append(replace(group, failures=failures))
        return kept

    def _ask_process(self, group: Group) -> Steps:
        """Return a group with why the process of its first failure ended, and what that wrote last."""
        first = group.first
        if first.part == "node" or first.kind in (FailureKind.NODE_DIED, FailureKind.PREEMPTED):
            return group
        if first.process_died or first.kind is FailureKind.OUT_OF_MEMORY or first.pid is None:
            workers = yield from self._try(self._records.workers(first.node_id, first.pid, first.worker_id))
            if isinstance(workers, list) and workers:
                last = max(workers, key=lambda row: milliseconds(row.get("end_time_ms")) or 0.0)
                first = with_end_of_worker(first, last)
        call = self._records.last_stderr_lines(first.node_id, file=first.stderr_file, pid=first.pid, lines=READ_LINES)
        found = yield from self._try(call)
        text = ""
        if isinstance(found, str):
            first, text = _read_stderr(first, found)
        if isinstance(found, RayAgentError) and _NODE_IS_SILENT.search(found.detail) and first.process_died:
            first = replace(first, reason="; ".join(filter(None, (first.reason, "its node did not answer"))))
            self._usages[first.node_id] = None
        return replace(group.with_first(first), stderr=text)

    def _ask_memory(self, group: Group) -> Steps:
        """Return a group with the memory of its first failure's node, if the process died for an unknown reason.

        Ray has no record of why the kernel ends a process, such as that its container has no more memory.
        """
        first = group.first
        if not first.process_died or first.crashed_with:
            return group
        if first.node_id not in self._usages:
            self._usages[first.node_id] = yield from self._try(self._records.node_usage(first.node_id))
        usage = self._usages[first.node_id]
        return group.with_first(with_memory_of_node(first, usage)) if isinstance(usage, NodeUsage) else group


def _read_stderr(failure: Failure, text: str) -> tuple[Failure, str]:
    """Return a failure with the crash that its process's standard error reports, and the lines that are shown."""
    lines = [line[:MAX_LINE] for line in text.split("\n") if line.strip() and not _MARKER.match(line)]
    begin = max(len(lines) - MAX_CRASH_REPORT, 0)
    for index, line in enumerate(lines[begin:], begin) if failure.process_died else ():
        if found := _CRASH.search(line):
            name = found[1] or _FAULTS[found[2]]
            failure = replace(failure, reason=f"its process crashed with {name}", crashed_with=name)
            # Its stack in native code is long, and tells a user less than what the program wrote before.
            lines = lines[: index + 1]
            break
    return failure, "\n".join(last_within(lines[-KEPT_LINES:], KEPT_CHARACTERS))
