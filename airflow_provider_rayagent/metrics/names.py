"""Names, kinds and tags of the metrics. ``docs/operations.md`` describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.tail.end import End

if TYPE_CHECKING:
    from collections.abc import Mapping

Mode = Literal["worker", "rescheduled", "deferred"]
"""How a task follows its job."""
UNKNOWN_STATUS = "UNKNOWN"
"""A job has ended with a status that is unknown to Ray."""
ERROR = "ERROR"
"""Another error, such as an invalid connection, or the task was killed."""

# The first is counted under the job's status; after the second, a rescheduled task looks at the job again.
_NO_ENDS = (End.JOB_ENDED, End.CHECKED_ONCE)
# A metrics backend keeps a series for each combination of values, so that no tag may have any value, such as a job's
# id.
VALUES: Mapping[str, tuple[str, ...]] = {
    "mode": get_args(Mode),
    "status": (
        *(status.value for status in JobStatus if status.is_terminal),
        UNKNOWN_STATUS,
        *(end.name for end in End if end not in _NO_ENDS),
        ERROR,
    ),
}
"""The values of tags."""

TEAM = "team_name"
"""A further tag of every metric if Airflow has teams, as of Airflow's own metrics."""


@dataclass(frozen=True)
class Metric:
    """A metric.

    :param name: its name, without Airflow's prefix.
    :param kind: ``timer`` is in milliseconds.
    :param tags: names of its tags, except :data:`TEAM`.
    """

    name: str
    kind: Literal["counter", "gauge", "timer"]
    tags: tuple[str, ...]


JOBS_FOLLOWED = Metric("rayagent.jobs_followed", "gauge", ("conn_id", "hostname"))
JOB_ENDS = Metric("rayagent.job_ends", "counter", ("conn_id", "mode", "status"))
END_DELAY = Metric("rayagent.end_delay", "timer", ("conn_id", "mode"))
LINE_LAG = Metric("rayagent.line_lag", "timer", ("conn_id", "mode"))
UNREADABLE_LOGS = Metric("rayagent.unreadable_logs", "counter", ("conn_id", "mode"))

METRICS = (JOBS_FOLLOWED, JOB_ENDS, END_DELAY, LINE_LAG, UNREADABLE_LOGS)
