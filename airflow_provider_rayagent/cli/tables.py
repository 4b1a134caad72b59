"""Rows of the commands' tables, and their output in the formats of Airflow's own commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airflow.cli.simple_table import AirflowConsole

from airflow_provider_rayagent.services.cluster_resources import amount_of
from airflow_provider_rayagent.services.job_secrets import secrets_of
from airflow_provider_rayagent.services.jobs import (
    MAX_ENTRYPOINT,
    duration_of,
    id_of,
    newest_first,
    shown_status,
    started_at,
)
from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.waits.capacity_wait import accelerators_of, gpus_of, live_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_rayagent.ui.orphans import UnfinishedJob

    Row = dict[str, Any]
    Redact = Callable[[str], str]

MAX_CELL = 4_000
"""Characters of one cell."""
_DATA = ("json", "yaml")
_GIB = 2**30
_STATES = {"True": "ALIVE", "False": "DEAD"}
"""States by the field ``alive``, which some agents have instead of ``state``."""


class _Console(AirflowConsole):
    """Airflow's console, for text from outside: no markup, no emoji codes."""

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False)

    def on_broken_pipe(self) -> NoReturn:
        """Let the caller handle it; rich would exit with 1."""
        raise BrokenPipeError


def print_rows(rows: Sequence[Row], output: str, redact: Redact) -> None:
    """Print rows with the same keys.

    :param output: ``table``, ``json``, ``yaml`` or ``plain``.
    :param redact: redacts secrets in each cell.
    """
    cells = [{name: _cell(value, output, redact) for name, value in row.items()} for row in rows]
    _Console().print_as(cells, output)


def print_details(row: Row, output: str, redact: Redact) -> None:
    """Print one object, as a table with a row for each of its values."""
    rows = [row] if output in _DATA else [{"property": name, "value": row[name]} for name in row]
    print_rows(rows, output, redact)


def job_rows(jobs: Iterable[Mapping[str, Any]], status: str | None, limit: int, redact: Redactor) -> list[Row]:
    """Return the rows of the newest jobs, newest first.

    :param status: list only jobs with this status.
    :param redact: redacts secrets, besides those of each job.
    """
    found = [job for job in jobs if status is None or job.get("status") == status]
    # Cut before the rows are made: redacting the entrypoints of thousands of jobs takes long.
    return [_job_row(job, redact) for job in newest_first(found)[:limit]]


def _job_row(job: Mapping[str, Any], redact: Redactor) -> Row:
    start = started_at(job)
    return {
        "job_id": id_of(job),
        "status": shown_status(job),
        "start_time": start and start.isoformat(sep=" ", timespec="seconds"),
        "seconds": duration_of(job),
        "entrypoint": sanitize(
            str(job.get("entrypoint") or ""), Redactor(secrets_of(job), base=redact), length=MAX_ENTRYPOINT, lines=True
        ),
    }


def unfinished_rows(found: Iterable[UnfinishedJob], redact: Redactor) -> list[Row]:
    """Return a row for each job that has not ended, the orphans first.

    :param redact: redacts secrets, besides those of each job.
    """
    rows = [
        {
            **{name: value for name, value in _job_row(job, redact).items() if name != "entrypoint"},
            "task": None if task is None else " ".join(map(str, task)),
            "orphan": not left_because,
            "left_because": left_because or None,
        }
        for job, task, left_because in found
    ]
    return sorted(rows, key=lambda row: not row["orphan"])


def node_rows(nodes: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each node; what the service does not tell is empty."""
    return [_node_row(node) for node in nodes]


def _node_row(node: Mapping[str, Any]) -> Row:
    resources = node.get("resources_total")
    total: Mapping[str, Any] = resources if isinstance(resources, dict) else {}
    memory = amount_of(total.get("memory"))
    return {
        "node_id": node.get("node_id"),
        "ip": node.get("node_ip"),
        "state": node.get("state") or _STATES.get(str(node.get("alive"))),
        "is_head": node.get("is_head_node"),
        "cpus": amount_of(total.get("CPU")),
        "gpus": amount_of(total.get("GPU")),
        "memory_gib": None if memory is None else round(memory / _GIB, 1),
    }


def gpu_rows(resources: Mapping[str, Any]) -> list[Row]:
    """Return a row for each live node that has GPUs, or for which that is unknown.

    :param resources: in the form of the agent's ``resources/cluster/``.
    """
    rows = []
    for node in live_nodes(resources):
        total, free = gpus_of(node)
        if total != 0:
            rows.append(
                {
                    "node_id": node.get("node_id"),
                    "ip": node.get("ip"),
                    "accelerator_type": ", ".join(accelerators_of(node)) or None,
                    "gpus": total,
                    "free": free,
                }
            )
    return rows


def application_rows(applications: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each Serve application."""
    return [
        {
            "name": application.get("name"),
            "status": shown_status(application),
            "route_prefix": application.get("route_prefix"),
            "message": application.get("message"),
        }
        for application in applications
    ]


def _cell(value: object, output: str, redact: Redact) -> object:
    if value is None:
        return None if output in _DATA else ""
    if isinstance(value, float):
        # Airflow prints values with `str` (`AirflowConsole._normalize_data`): 0.1 + 0.2 would be 0.30000000000000004.
        return f"{value:.10g}"
    # In plain output, a row is one line.
    return sanitize(str(value), redact, length=MAX_CELL, lines=output != "plain")
