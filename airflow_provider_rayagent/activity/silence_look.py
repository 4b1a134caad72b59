"""Ask Ray what runs of a job that writes nothing. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.activity.running_parts import (
    Attempt,
    Process,
    attempts_of,
    cpu_of,
    place_of,
    program_of,
    running_groups,
    starts_of,
)
from airflow_provider_rayagent.activity.stacks import shown_stack
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.service import MAX_ROWS
from airflow_provider_rayagent.text.sanitization import MAX_ERROR, sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_rayagent.activity.running_parts import RunningGroup
    from airflow_provider_rayagent.activity.shared_records import SharedRecords
    from airflow_provider_rayagent.services.call import Call, Steps
    from airflow_provider_rayagent.services.ray_responses import NodeUsage

    Row = Mapping[str, Any]
    Redact = Callable[[str], str]

MAX_TASKS = 100
"""Running tasks that are read with their details."""
MAX_GROUPS = 5
MAX_NODES = 4
"""Nodes that are asked for their processes."""
MAX_STACKS = 3
LOOK_SECONDS = 6.0
"""After this time, nothing more is asked."""
NOT_CONNECTED = "its program has not connected to Ray, which lists nothing of it"
NO_STACKS = {
    False: "Ray gives no Python stacks: for them, start its head with RAY_DASHBOARD_ENABLE_PROFILING=1, or run "
    "py-spy dump --pid PID on the node.",
    None: "For Python stacks, set stall_stacks=True, which runs py-spy on the node and pauses each process for a "
    "moment, or run py-spy dump --pid PID there.",
}
"""How to get the stacks, by whether Ray gives them."""


@dataclass(frozen=True)
class Silence:
    """What runs of a job that writes nothing.

    :param attempts: all attempts that run; ``None``: not known completely.
    :param executed: how many tasks its workers have executed, by the worker.
    :param finished: how many of its tasks have finished; ``None``: not asked for, or not known.
    :param is_known: whether it can be compared.
    :param oldest_ago: seconds since the first one of those that run started; ``None``: unknown, or nothing runs.
    :param newest_ago: seconds since the last one started.
    :param parts: what runs, in sentences without a full stop.
    :param stacks: lines about the Python stacks of these.
    :param advice: how to get stacks.
    """

    attempts: frozenset[Attempt] | None = None
    executed: Mapping[str, int] = field(default_factory=dict)
    finished: int | None = None
    is_known: bool = False
    oldest_ago: float | None = None
    newest_ago: float | None = None
    parts: Sequence[str] = ()
    stacks: Sequence[str] = ()
    advice: str = ""

    def goes_on_from(self, before: Silence) -> bool:
        """Whether tasks have started or ended since an earlier look."""
        # Workers that are idle end, which means nothing. Those with GPUs end after each task.
        more = any(count > before.executed.get(worker, 0) for worker, count in self.executed.items())
        return more or self.attempts != before.attempts or self.finished != before.finished

    def runs_since(self, before: Silence) -> bool:
        """Whether an attempt still runs that ran at an earlier look."""
        return bool((self.attempts or frozenset()) & (before.attempts or frozenset()))


def look_at_silence(
    records: SharedRecords,
    job: Row,
    *,
    counts: bool,
    before: Silence | None,
    tells: bool,
    takes_stacks: bool | None,
    redact: Redact,
) -> Steps:
    """Return the operation whose result is the :class:`Silence` of a job that runs.

    It raises a :class:`RayAgentError` if Ray cannot be asked.

    :param counts: whether to ask how many tasks have finished.
    :param before: what was found before; what runs is described if nothing has changed since.
    :param tells: describe it in any case.
    :param takes_stacks: whether to ask for stacks; ``None``: if Ray says that it gives them.
    """
    until = records.clock() + LOOK_SECONDS
    driver_job_id = str(job.get("job_id") or "")
    if not driver_job_id:
        return Silence(frozenset(), is_known=True, parts=(NOT_CONNECTED,))
    rows = yield records.service.activity_records.running_tasks(driver_job_id, MAX_TASKS)
    found: Silence = yield from _compared(records, driver_job_id, rows, counts=counts)
    if not tells and (before is None or not found.is_known or found.goes_on_from(before)):
        return found
    groups = running_groups(rows)
    program = program_of(job)
    firsts = [group.first.process for group in groups[:MAX_GROUPS]]
    others = [part.process for group in groups[:MAX_GROUPS] for part in group.parts]
    nodes = yield from _usage_of_nodes(records, [*firsts[:1], program, *firsts[1:], *others], until)
    parts = [group.describe(nodes, redact, is_cut=len(rows) >= MAX_TASKS) for group in groups[:MAX_GROUPS]]
    if (more := len(groups) - MAX_GROUPS) > 0:
        parts.append(f"tasks of {more} more function{'s' if more > 1 else ''}")
    if not groups:
        parts.append("no task, by Ray's list")
    parts.append(_describe_program(program, nodes, redact))
    stacks, advice = yield from _stacks(records, groups, program, takes_stacks, until, redact)
    return replace(found, parts=[part for part in parts if part], stacks=stacks, advice=advice)


def _compared(records: SharedRecords, driver_job_id: str, rows: Sequence[Row], *, counts: bool) -> Steps:
    """Return what is compared with another look.

    Tasks that take less than a second can go unnoticed in the list of those that run, since Ray's workers report what
    they do once a second (``task_events_report_interval_ms`` in ``ray_config_def.h``). What a worker has executed is
    not known any more when it has ended.
    """
    attempts = yield from _attempts(records, driver_job_id, rows)
    executed, finished, is_known = {}, None, attempts is not None
    try:
        executed = yield from records.executed_tasks(driver_job_id)
        if counts:
            finished = yield records.service.activity_records.finished_tasks(driver_job_id)
            is_known = is_known and finished is not None
    except RayAgentError:
        is_known = False
    # Those of the future are of nodes with another clock.
    ages = [ago for start in starts_of(rows) if (ago := records.seconds_since(start)) is not None and ago >= 0]
    return Silence(attempts, executed, finished, is_known, max(ages, default=None), min(ages, default=None))


def _attempts(records: SharedRecords, driver_job_id: str, rows: Sequence[Row]) -> Steps:
    """Return all attempts that run; ``None`` if Ray does not list them all."""
    if len(rows) < MAX_TASKS:
        return attempts_of(rows)
    call = records.service.activity_records.running_attempts(driver_job_id)
    every = (yield call) if call is not None else ()
    return attempts_of(every) if 0 < len(every) < MAX_ROWS else None


def _usage_of_nodes(records: SharedRecords, processes: Iterable[Process], until: float) -> Steps:
    """Return the usage of the nodes of processes, by the ids of the nodes."""
    found: dict[str, NodeUsage] = {}
    for node_id in list(dict.fromkeys(process.node_id for process in processes if process.node_id))[:MAX_NODES]:
        if records.clock() < until:
            try:
                node = yield from records.node_usage(node_id)
            except RayAgentError:
                continue
            if node is not None:
                found[node_id] = node
    return found


def _describe_program(program: Process, nodes: Mapping[str, NodeUsage], redact: Redact) -> str:
    if program.pid is None:
        return ""
    place = f" on {place_of(program.node_id, nodes, redact)}" if program.node_id else ""
    return f"its program (process {program.pid}{place})" + "".join(
        f" uses {percent:.0f}% of a CPU" for percent in cpu_of([program], nodes)
    )


def _stacks(
    records: SharedRecords,
    groups: Sequence[RunningGroup],
    program: Process,
    takes_stacks: bool | None,
    until: float,
    redact: Redact,
) -> Steps:
    """Return lines about stacks, and how to get them."""
    lines: list[str] = []
    if takes_stacks is False:
        return lines, ""
    targets = {group.first.process: group.first.shown_name(redact) for group in groups[:MAX_GROUPS]}
    targets = targets or {program: "the program"}
    calls = [
        (name, process, call)
        for process, name in targets.items()
        if process.pid is not None
        and (call := records.service.activity_records.stack(process.node_id, process.pid)) is not None
    ]
    if not calls:
        return lines, ""
    try:
        allowed = yield from records.allows_stacks()
    except RayAgentError:
        return lines, ""
    if not (allowed or (allowed is None and takes_stacks)):
        return lines, NO_STACKS[allowed]
    for name, process, call in calls[:MAX_STACKS]:
        if records.clock() < until:
            lines += yield from _stack(call, f"Python stack of {name} (process {process.pid})", redact)
    return lines, ""


def _stack(call: Call, what: str, redact: Redact) -> Steps:
    try:
        frames = shown_stack((yield call), redact)
    except RayAgentError as error:
        return [f"{what}: not available: {sanitize(error.detail, redact, length=MAX_ERROR)}"]
    return [f"{what}:", *(f"  {frame}" for frame in frames)] if frames else []
