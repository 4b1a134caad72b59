"""What Ray records about a whole cluster, asked at most twice a minute for all jobs of one process. Pure."""

from __future__ import annotations

import copy
import math
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.activity.cluster_view import ClusterView
from airflow_provider_rayagent.activity.demands import demand_of_job, supervised_job
from airflow_provider_rayagent.activity.holders import holdings
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.call import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.services.call import Operation, Steps
    from airflow_provider_rayagent.services.service import Service

    Row = Mapping[str, Any]

KEPT_SECONDS = 30.0
NEW_JOB_SECONDS = 10.0
"""A list of jobs that have not started, if it is older, may not have one that is new."""
STATUS_SECONDS = 60.0
"""Ray's monitor writes the status of the cluster every 5 seconds; an older one is that of a monitor that has died."""
MAX_HOLDINGS = 1_000
"""Live actors, and tasks that run, that are read: where there are more, nobody is told who holds what."""


class SharedRecords:
    """Answers of one service, kept for :data:`KEPT_SECONDS`; errors, too, so that a service in trouble is left alone.

    Kept is what is made of the answers, since that takes longer than a look may for each of 1,000 jobs.

    :param clock: monotonic, in seconds.
    :param seconds_since: how long ago a time of the service was, in seconds since the epoch; ``None``: unknown.
    """

    def __init__(
        self, service: Service, clock: Callable[[], float], seconds_since: Callable[[float], float | None]
    ) -> None:
        self.service = service
        self.clock = clock
        self.seconds_since = seconds_since
        self._kept: dict[str, tuple[float, Any]] = {}

    def demand_of_pending(self, job_id: str) -> Steps:
        """Return the operation whose result is what a job requires that has not started; ``None``: unknown."""
        for seconds in (math.inf, NEW_JOB_SECONDS):
            demands = yield from self._get("pending jobs", self._pending_jobs, seconds)
            if job_id in demands:
                return demands[job_id]
        return None

    def pending_groups(self, driver_job_id: str) -> Steps:
        """Return the operation whose result is the rows of a driver's placement groups that are not placed."""
        groups, _ = yield from self._get("groups", self._groups_and_status)
        return [row for row in groups if row.get("creator_job_id") == driver_job_id and _is_pending(row)]

    def environments(self) -> Steps:
        """Return the operation whose result is the rows of runtime environments that are being set up."""
        return (yield from self._get("environments", self._environments))

    def cluster(self) -> Steps:
        """Return the operation whose result is the view of the cluster, or ``None``."""
        return (yield from self._get("cluster", self._cluster))

    def capacity(self) -> Steps:
        """Return the operation whose result is what the cluster has free, in the agent's form."""
        return (yield from self._get("capacity", partial(_answer, self.service.get_capacity())))

    def holdings(self) -> Steps:
        """Return the operation whose result is what each job holds of the cluster's resources."""
        return (yield from self._get("holdings", self._holdings))

    def executed_tasks(self, driver_job_id: str) -> Steps:
        """Return the operation whose result is how many tasks each of a job's workers has executed, by the worker.

        A service that does not count them has none.
        """
        operation = self.service.activity_records.executed_tasks()
        executed = yield from self._get("executed tasks", partial(_answer, operation))
        return (executed or {}).get(driver_job_id, {})

    def node_usage(self, node_id: str) -> Steps:
        """Return the operation whose result is the :class:`.NodeUsage` of a node; ``None``: not listed."""
        operation = self.service.activity_records.node_usage(node_id)
        return (yield from self._get(f"usage of {node_id}", partial(_answer, operation)))

    def allows_stacks(self) -> Steps:
        """Return the operation whose result is whether the service gives stacks; ``None``: it does not say."""
        return (yield from self._get("allows stacks", self._allows_stacks))

    def _allows_stacks(self) -> Steps:
        try:
            return (yield from _answer(self.service.activity_records.allows_stacks()))
        except RayAgentError as error:
            if error.status_code == HTTPStatus.NOT_FOUND:
                return None
            raise

    def _pending_jobs(self) -> Steps:
        rows = yield from _answer(self.service.activity_records.pending_jobs())
        return {job_id: demand_of_job(row) for row in rows or () if (job_id := supervised_job(row)) is not None}

    def _groups_and_status(self) -> Steps:
        # At the same time, since the status tells the strategies of the groups.
        try:
            groups = yield from _answer(self.service.activity_records.placement_groups())
        except RayAgentError:
            groups = ()
        return groups or (), (yield from _answer(self.service.activity_records.cluster_status()))

    def _environments(self) -> Steps:
        rows = yield from _answer(self.service.activity_records.runtime_environments())
        return [row for row in rows or () if row.get("success") is None]

    def _cluster(self) -> Steps:
        groups, status = yield from self._get("groups", self._groups_and_status)
        if status is None:
            return None
        age = self.seconds_since(status.written_at) if status.written_at else None
        if age is not None and age > STATUS_SECONDS:
            status = status._replace(usage=None, starting_nodes=0, group_demand=())
        pending = [row for row in groups if _is_pending(row)]
        return ClusterView((yield from _answer(self.service.list_nodes())), status, pending)

    def _holdings(self) -> Steps:
        records = self.service.activity_records
        actors = yield from _answer(records.live_actors(MAX_HOLDINGS))
        tasks = yield from _answer(records.tasks_of_all(MAX_HOLDINGS))
        if max(len(actors), len(tasks)) >= MAX_HOLDINGS:
            # There may be more.
            return {}
        groups, _ = yield from self._get("groups", self._groups_and_status)
        jobs = yield from _answer(self.service.list_jobs())
        return holdings(jobs, actors=actors, tasks=tasks, groups=groups)

    def _get(self, name: str, ask: Callable[[], Steps], seconds: float = math.inf) -> Steps:
        """Return what is kept under a name, or else what an operation results in.

        :param seconds: how old it may be, if that is less than :data:`KEPT_SECONDS`.
        """
        at, found = self._kept.get(name, (-math.inf, None))
        if self.clock() - at >= min(seconds, KEPT_SECONDS):
            try:
                found = yield from ask()
            except RayAgentError as error:
                found = error
            now = self.clock()
            self._kept = {each: kept for each, kept in self._kept.items() if now - kept[0] < KEPT_SECONDS}
            self._kept[name] = (now, found)
        if isinstance(found, RayAgentError):
            # Its traceback would grow with each look.
            raise copy.copy(found).with_traceback(None)
        return found


def _answer(operation: Operation | None) -> Steps:
    if operation is None:
        return None
    return (yield operation) if isinstance(operation, Call) else (yield from operation)


def _is_pending(group: Row) -> bool:
    return group.get("state") in ("PENDING", "RESCHEDULING")
