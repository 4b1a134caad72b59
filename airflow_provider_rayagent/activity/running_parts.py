"""What of a job runs on Ray: its tasks, methods of actors and program, in groups. Pure.

Nothing here may fail for a column with a value of another type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.activity.demands import MAX_NAME
from airflow_provider_rayagent.services.cluster_resources import amount_of
from airflow_provider_rayagent.services.state_columns import attempt_of, pid_of, text_of
from airflow_provider_rayagent.text.nodes import shown_node
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.text.times import shown_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from airflow_provider_rayagent.services.ray_responses import NodeUsage

    Row: TypeAlias = Mapping[str, Any]
    Nodes: TypeAlias = Mapping[str, NodeUsage]

_NOUNS = {
    "ACTOR_TASK": ("method", "methods"),
    # The constructor is the method that runs.
    "ACTOR_CREATION_TASK": ("constructor", "constructors"),
}
_TASK = ("task", "tasks")
_PID = re.compile("[1-9][0-9]{0,8}")


class Process(NamedTuple):
    """A process on a node.

    :param pid: ``None``: unknown.
    """

    node_id: str
    pid: int | None


class Attempt(NamedTuple):
    """One attempt of a task."""

    task_id: str
    number: int


@dataclass(frozen=True)
class RunningPart:
    """A task, or a method of an actor, that runs.

    :param nouns: what it is, in singular and plural.
    :param started_at: milliseconds since the epoch; ``None``: unknown.
    """

    nouns: tuple[str, str]
    name: str
    process: Process
    started_at: float | None

    def shown_name(self, redact: Callable[[str], str], *, is_plural: bool = False) -> str:
        """Return what it is with its name, for a message."""
        return f"{self.nouns[is_plural]} {sanitize(self.name, redact, length=MAX_NAME)}".rstrip()


@dataclass(frozen=True)
class RunningGroup:
    """Parts with the same function, those that have run for the longest time first; at least one."""

    parts: Sequence[RunningPart]

    @property
    def first(self) -> RunningPart:
        """The part that has run for the longest time."""
        return self.parts[0]

    def describe(self, nodes: Nodes, redact: Callable[[str], str], *, is_cut: bool = False) -> str:
        """Return a sentence without a full stop.

        :param nodes: those whose processes are known, by their ids.
        :param is_cut: whether there may be more parts.
        """
        count = len(self.parts)
        text = f"{'at least ' if is_cut else ''}{count:,} {self.first.shown_name(redact, is_plural=count > 1)}"
        if self.first.started_at is not None:
            # With the date, since a job can be silent for days.
            text += f", {'the first ' if count > 1 else ''}since {shown_time(self.first.started_at)}"
        on = list(dict.fromkeys(part.process.node_id for part in self.parts if part.process.node_id))
        if on:
            text += f", on {len(on):,} nodes, the first on " if len(on) > 1 else ", on "
            text += place_of(on[0], nodes, redact)
        return text + _describe_cpu({part.process for part in self.parts}, nodes)


def attempts_of(rows: Iterable[Row]) -> frozenset[Attempt]:
    """Return the attempts in rows of the state API about tasks."""
    return frozenset(Attempt(str(row.get("task_id")), attempt_of(row)) for row in rows)


def running_groups(rows: Iterable[Row]) -> list[RunningGroup]:
    """Return what runs in groups, by the time for which their first parts have run.

    :param rows: of the state API about tasks that run, with their details.
    """
    found: dict[tuple[str, str], list[RunningPart]] = {}
    for part in sorted(map(_part_of, rows), key=_age):
        found.setdefault((part.nouns[0], part.name), []).append(part)
    return sorted(map(RunningGroup, found.values()), key=lambda group: _age(group.first))


def program_of(job: Row) -> Process:
    """Return the process of a job's program, as far as it is known."""
    info = job.get("driver_info")
    driver = info if isinstance(info, dict) else {}
    # Ray's job details have it as a text.
    text = text_of(driver, "pid")
    pid = int(text) if _PID.fullmatch(text) else pid_of(driver)
    return Process(str(job.get("driver_node_id") or ""), pid)


def starts_of(rows: Iterable[Row]) -> list[float]:
    """Return when tasks started, in seconds since the epoch, as far as that is known."""
    return [start / 1000 for row in rows if (start := amount_of(row.get("start_time_ms")))]


def place_of(node_id: str, nodes: Nodes, redact: Callable[[str], str]) -> str:
    """Return where something runs, for a message."""
    return f"node {shown_node(node_id, {each: node.address for each, node in nodes.items()}, redact)}"


def cpu_of(processes: Iterable[Process], nodes: Nodes) -> list[float]:
    """Return how much of a CPU processes use, in percent, as far as that is known."""
    return [
        nodes[node_id].cpu[pid]
        for node_id, pid in processes
        if node_id in nodes and pid is not None and pid in nodes[node_id].cpu
    ]


def _describe_cpu(processes: Collection[Process], nodes: Nodes) -> str:
    found = cpu_of(processes, nodes)
    if not found:
        return ""
    least, most = f"{min(found):.0f}", f"{max(found):.0f}"
    whose = "its process" if len(processes) == 1 else "their processes"
    if len(found) < len(processes):
        whose = f"{len(found):,} of {len(processes):,} processes"
    return f"; CPU of {whose}: {most if least == most else f'{least}% to {most}'}%"


def _part_of(row: Row) -> RunningPart:
    return RunningPart(
        _NOUNS.get(str(row.get("type")), _TASK),
        str(row.get("name") or row.get("func_or_class_name") or ""),
        Process(str(row.get("node_id") or ""), pid_of(row, "worker_pid")),
        amount_of(row.get("start_time_ms")),
    )


def _age(part: RunningPart) -> tuple[bool, float]:
    return part.started_at is None, part.started_at or 0.0
