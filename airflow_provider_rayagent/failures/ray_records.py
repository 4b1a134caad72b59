"""What Ray's records of tasks, actors, workers and nodes say about the failed parts of a job. Pure.

The columns are those of the state API (``util/state/common.py`` in Ray), whose values come from the job's own code as
well: nothing here may fail for a value of another type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_rayagent.failures.failure_kinds import (
    FailureKind,
    is_exception_of_ray,
    kind_by_words,
    kind_of_exception,
    last_exception,
)
from airflow_provider_rayagent.services.cluster_resources import amount_of
from airflow_provider_rayagent.services.jobs import milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Row = Mapping[str, Any]

Part = Literal["task", "actor", "node"]

_DRIVERS_END = "as driver exits"
"""Words about a task that was open when the driver ended, which Ray lists as failed (GCS: ``gcs_task_manager.cc``)."""
_DRIVERS_OR_OWNERS_END = re.compile(r"owner has died|because the owner|references to the actor|out of scope")
"""Words about the death of an actor that ended as it should, at the end of the driver at the latest."""
_INTENDED = re.compile(r"killed by `?ray\.kill|INTENDED_USER_EXIT|exit_actor")
"""Words about the death of an actor that the program itself may have wanted."""
_DIED = "its process died, and Ray does not know why"
_LOW_ON_MEMORY = "its node was low on memory, and Ray killed the process"
_MEMORY = re.compile(r"was ([\d.]+) ?GB(?: used)? / ([\d.]+) ?GB")
"""In ``Memory on the node (IP: …) was 30.20GB used / 32.00GB limit (0.94)``, without the words in 2.50."""
_EXIT_CODE = re.compile(r"exits? with an exit code (-?\d+)")
_PIP_ERROR = re.compile(r"^\s*(?:ERROR|error): .*", re.MULTILINE)
_PREEMPTED = re.compile(r"preempt", re.IGNORECASE)
_CLOCK_DIFFERENCE = 60_000.0
"""By how much the clocks of nodes may differ, in ms."""
_NODE_BEFORE, _NODE_AFTER = 60_000.0, 30_000.0
"""How long before or after the end of a job, in ms, a node was lost that may be a reason. Ray notices the loss late."""

_TASK_ERRORS: dict[str, tuple[FailureKind | None, str]] = {
    "WORKER_DIED": (FailureKind.WORKER_LOST, _DIED),
    "OUT_OF_MEMORY": (FailureKind.OUT_OF_MEMORY, _LOW_ON_MEMORY),
    "NODE_DIED": (FailureKind.NODE_DIED, "its node was lost"),
    "LOCAL_RAYLET_DIED": (FailureKind.NODE_DIED, "the Ray of its node died"),
    "RUNTIME_ENV_SETUP_FAILED": (FailureKind.RUNTIME_ENV, "its runtime environment could not be set up"),
    "TASK_CANCELLED": (FailureKind.PROGRAM, "it was canceled"),
    "TASK_PLACEMENT_GROUP_REMOVED": (FailureKind.PROGRAM, "its placement group was removed"),
    "ACTOR_PLACEMENT_GROUP_REMOVED": (FailureKind.PROGRAM, "its placement group was removed"),
    "TASK_UNSCHEDULABLE_ERROR": (FailureKind.RESOURCES, "no node could run it"),
    "ACTOR_UNSCHEDULABLE_ERROR": (FailureKind.RESOURCES, "no node could run it"),
    "OUT_OF_DISK_ERROR": (FailureKind.STORAGE_FULL, "the disk of its node was full"),
}
"""By Ray's type of the error of a task (``ErrorType`` in ``common.proto``)."""
_EXCEPTION = "TASK_EXECUTION_EXCEPTION"
_OWN_ERRORS = (_EXCEPTION, "TASK_CANCELLED")
"""Types of the errors of a call of an actor of which the actor is not the cause."""
_ACTOR_DEATHS: dict[str, tuple[FailureKind | None, str]] = {
    "creation_task_failure_context": (FailureKind.PROGRAM, "its constructor failed"),
    "runtime_env_failed_context": _TASK_ERRORS["RUNTIME_ENV_SETUP_FAILED"],
    "actor_unschedulable_context": _TASK_ERRORS["ACTOR_UNSCHEDULABLE_ERROR"],
    "oom_context": _TASK_ERRORS["OUT_OF_MEMORY"],
}
"""By the field of a dead actor's ``death_cause`` (``ActorDeathCause`` in ``common.proto``)."""
_DEATHS_BY_KIND = {
    FailureKind.NODE_DIED: "its node was lost",
    FailureKind.OUT_OF_MEMORY: _LOW_ON_MEMORY,
    FailureKind.WORKER_LOST: _DIED,
    FailureKind.PROGRAM: "the program ended it",
}


@dataclass(frozen=True)
class Failure:
    """A task that failed, an actor that died, or a node that was lost.

    :param name: of the function or the class; empty for a node.
    :param reason: what happened, as in ``its node was lost``; of an exception its type and message.
    :param group_by: what failures with the same reason have in common, such as the type of the exception.
    :param at: in ms since the epoch; ``None``: unknown.
    :param key: id of the task, the actor or the node.
    :param attempt: number of the task's attempt, from 0.
    :param calls: number of calls of the actor that failed with it.
    :param stderr_file: name of the file with the task's standard error, on its node; empty if it is unknown.
    :param follows: whether it follows from another failure.
    :param crashed_with: the signal of a crash in native code; empty if there is none.
    """

    part: Part
    key: str
    name: str
    kind: FailureKind | None
    reason: str
    group_by: str
    at: float | None = None
    node_id: str = ""
    pid: int | None = None
    worker_id: str = ""
    attempt: int = 0
    calls: int = 0
    stderr_file: str = ""
    follows: bool = False
    crashed_with: str = ""

    @property
    def is_of_process(self) -> bool:
        """Whether a process died."""
        return self.part != "node" and self.kind is FailureKind.WORKER_LOST


def failures_of(job: Row, tasks: Sequence[Row], actors: Sequence[Row], nodes: Sequence[Row]) -> list[Failure]:
    """Return what failed while a job ran, in the order of time; what has no time comes last.

    :param job: its details.
    :param tasks: the failed attempts of the job's tasks.
    :param actors: the dead actors of the job.
    :param nodes: the nodes of the cluster.
    """
    rows = [row for row in tasks if _counts(row, job)]
    failures = [*_task_failures(rows), *_actor_failures(actors, rows)]
    lost = _lost_nodes(nodes, failures, job)
    failures = [_with_preemption(each, lost) for each in failures]
    return sorted([*failures, *lost.values()], key=lambda each: (each.at is None, each.at or 0.0, each.part != "node"))


def crash_of(lines: Sequence[str]) -> tuple[str, int] | None:
    """Return the signal of the native crash that standard error reports, and the index of its line; ``None``: none."""
    for index, line in enumerate(lines):
        # Written by Ray's handler of fatal signals (abseil's ``failure_signal_handler.cc``), or by faulthandler.
        if found := _CRASH.search(line):
            return found[1] or _FAULTS[found[2]], index
    return None


_FAULTS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating point exception": "SIGFPE",
    "Floating-point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
}
_CRASH = re.compile(rf"\*\*\* (SIG[A-Z]+) received at time|Fatal Python error: ({'|'.join(_FAULTS)})")


def end_of_worker(worker: Row) -> tuple[FailureKind, str] | None:
    """Return why a process died, as far as the record of its worker tells it; ``None``: it does not."""
    kind, detail = str(worker.get("exit_type")), str(worker.get("exit_detail") or "")
    if kind == "NODE_OUT_OF_MEMORY" or "running low on memory" in detail:
        return FailureKind.OUT_OF_MEMORY, _with_memory(_LOW_ON_MEMORY, detail)
    if code := _EXIT_CODE.search(detail):
        # A program that ends its process by itself, as with os._exit.
        return FailureKind.PROGRAM, f"its process ended with exit code {code[1]}"
    return None


def _counts(row: Row, job: Row) -> bool:
    """Return whether a failed attempt is a failure of the job, and no consequence of its end."""
    if str(row.get("error_type")) == "OWNER_DIED" or _DRIVERS_END in str(row.get("error_message")):
        return False
    end, at = milliseconds(job.get("end_time")), milliseconds(row.get("end_time_ms"))
    # The clocks of the nodes differ; the driver's end is about two seconds before the job's.
    return str(row.get("state")) == "FAILED" and (end is None or at is None or at <= end + _CLOCK_DIFFERENCE)


def _task_failures(rows: Iterable[Row]) -> list[Failure]:
    failures = []
    for row in rows:
        error = str(row.get("error_type") or "")
        if not _is_of_actor(row):
            failures.append(_task_failure(row, error))
    # One failure for all failed attempts of a task: the last one.
    last: dict[str, Failure] = {}
    for failure in sorted(failures, key=lambda each: each.attempt):
        last[failure.key or str(id(failure))] = failure
    return list(last.values())


def _is_of_actor(row: Row) -> bool:
    """Return whether the failure of a task is that of its actor."""
    return str(row.get("type")) == "ACTOR_CREATION_TASK" or (
        str(row.get("type")) == "ACTOR_TASK" and str(row.get("error_type")) not in _OWN_ERRORS
    )


def _task_failure(row: Row, error: str) -> Failure:
    message = str(row.get("error_message") or "")
    kind, reason = _TASK_ERRORS.get(error, (None, f"Ray reports {error or 'no reason'}"))
    group_by, follows = error, False
    if error == _EXCEPTION:
        reason = last_exception(message) or "an exception"
        group_by = reason.partition(":")[0]
        follows = is_exception_of_ray(reason)
        kind = kind_of_exception(reason) if follows else FailureKind.PROGRAM
    elif error == "OUT_OF_MEMORY":
        reason = _with_memory(reason, message)
    elif error == "RUNTIME_ENV_SETUP_FAILED":
        reason = f"{reason}: {_environment_error(message)}"
    elif error == "WORKER_DIED" and (code := _EXIT_CODE.search(message)):
        kind, reason = FailureKind.PROGRAM, f"its process ended with exit code {code[1]}"
    log = row.get("task_log_info")
    return Failure(
        "task",
        _text(row, "task_id"),
        _text(row, "func_or_class_name") or _text(row, "name"),
        kind,
        reason,
        group_by,
        at=milliseconds(row.get("end_time_ms")),
        node_id=_text(row, "node_id"),
        pid=_pid(row.get("worker_pid")),
        worker_id=_text(row, "worker_id"),
        attempt=int(amount_of(row.get("attempt_number")) or 0),
        stderr_file=_text(log, "stderr_file") if isinstance(log, dict) else "",
        follows=follows,
    )


def _actor_failures(actors: Iterable[Row], tasks: Iterable[Row]) -> list[Failure]:
    """Return the deaths of actors: those that are recorded, and those that only failed calls tell of."""
    calls: dict[str, list[Row]] = {}
    for row in tasks:
        if _is_of_actor(row):
            calls.setdefault(_text(row, "actor_id"), []).append(row)
    failures = []
    for actor in actors:
        failure = _actor_failure(actor, calls.pop(_text(actor, "actor_id"), []))
        if failure is not None:
            failures.append(failure)
    # Actors of an agent, which does not list them, and those that do not answer but are not known to be dead.
    failures += [_silent_actor({"actor_id": actor_id}, rows) for actor_id, rows in calls.items()]
    return failures


def _actor_failure(actor: Row, calls: Sequence[Row]) -> Failure | None:
    """Return the death of an actor; ``None`` if it is none that a job can fail from."""
    cause = actor.get("death_cause")
    field, context = next(iter(cause.items()), ("", None)) if isinstance(cause, dict) else ("", None)
    context = context if isinstance(context, dict) else {}
    message = str(context.get("error_message") or context.get("formatted_exception_string") or "")
    failed = [row for row in calls if str(row.get("type")) != "ACTOR_CREATION_TASK"]
    if _DRIVERS_OR_OWNERS_END.search(message) or str(context.get("reason")) == "OWNER_DIED":
        return _silent_actor(actor, failed) if failed else None
    if _INTENDED.search(message) and not failed:
        return None
    kind, reason = _ACTOR_DEATHS.get(field) or _death(message)
    group_by = kind.value if kind else "UNKNOWN"
    if field == "creation_task_failure_context":
        error = last_exception(message) or ""
        reason = f"{reason}: {error}" if error else reason
        group_by = f"{field} {error.partition(':')[0]}"
    elif field == "runtime_env_failed_context":
        reason = f"{reason}: {_environment_error(message)}"
    first = min(calls, key=lambda row: milliseconds(row.get("end_time_ms")) or float("inf"), default={})
    return Failure(
        "actor",
        _text(actor, "actor_id"),
        _text(actor, "class_name"),
        kind,
        reason,
        group_by,
        at=milliseconds(first.get("end_time_ms")),
        node_id=_text(actor, "node_id") or _text(context, "node_id"),
        pid=_pid(actor.get("pid")) or _pid(context.get("pid")),
        calls=len(failed),
    )


def _death(message: str) -> tuple[FailureKind | None, str]:
    if code := _EXIT_CODE.search(message):
        return FailureKind.PROGRAM, f"its process ended with exit code {code[1]}"
    kind = kind_by_words(message)
    if kind is FailureKind.PROGRAM and "ray.kill" in message:
        return kind, "the program killed it with ray.kill"
    return kind, _with_memory(_DEATHS_BY_KIND.get(kind, "Ray does not say why"), message) if kind else "it died"


def _silent_actor(actor: Row, calls: Sequence[Row]) -> Failure:
    """Return the failure of an actor whose calls tell of it, and not its own record."""
    first = min(calls, key=lambda row: milliseconds(row.get("end_time_ms")) or float("inf"))
    kind, reason = _death(str(first.get("error_message") or ""))
    if str(first.get("error_type")) == "ACTOR_UNAVAILABLE":
        kind, reason = FailureKind.WORKER_LOST, "it stopped answering"
    elif str(first.get("error_type")) == _EXCEPTION:
        kind, reason = FailureKind.PROGRAM, f"its constructor failed: {last_exception(str(first.get('error_message')))}"
    name = _text(first, "func_or_class_name") or _text(first, "name")
    return Failure(
        "actor",
        _text(actor, "actor_id"),
        # ``Trainer.step`` is a method.
        _text(actor, "class_name") or name.rpartition(".")[0] or name,
        kind,
        reason,
        f"{kind.value if kind else 'UNKNOWN'} {first.get('error_type')}",
        at=milliseconds(first.get("end_time_ms")),
        node_id=_text(first, "node_id"),
        pid=_pid(first.get("worker_pid")),
        worker_id=_text(first, "worker_id"),
        calls=len(calls),
    )


def _lost_nodes(nodes: Iterable[Row], failures: Sequence[Failure], job: Row) -> dict[str, Failure]:
    """Return the lost nodes that a failure tells of, and those that died unexpectedly when the job failed, by id."""
    named: dict[str, float | None] = {}
    for failure in failures:
        if failure.kind is FailureKind.NODE_DIED and failure.node_id:
            times = [at for at in (named.get(failure.node_id), failure.at) if at is not None]
            named[failure.node_id] = min(times, default=None)
    driver_node = _text(job, "driver_node_id")
    lost = {}
    known = {_text(node, "node_id"): node for node in nodes}
    for node_id, node in known.items():
        is_dead = str(node.get("state")) == "DEAD"
        if node_id not in named and not (is_dead and (node_id == driver_node or _is_loss(node, job))):
            continue
        message, end = str(node.get("state_message") or ""), milliseconds(node.get("end_time_ms"))
        # Ray notices the loss of a node seconds after that of its processes.
        at = min((each for each in (named.get(node_id), end) if each), default=None)
        kind = FailureKind.PREEMPTED if _PREEMPTED.search(message) else FailureKind.NODE_DIED
        reason = message.strip() if is_dead else "it stopped answering; Ray still lists it as alive"
        lost[node_id] = Failure("node", node_id, "", kind, reason, reason, at=at, node_id=node_id)
    for node_id in named.keys() - known.keys():
        at = named[node_id]
        lost[node_id] = Failure("node", node_id, "", FailureKind.NODE_DIED, "", "", at=at, node_id=node_id)
    return lost


def _is_loss(node: Row, job: Row) -> bool:
    """Return whether a dead node was lost when a job failed, and not removed as one that is idle."""
    message, end = str(node.get("state_message") or ""), milliseconds(node.get("end_time_ms"))
    start, job_end = milliseconds(job.get("start_time")), milliseconds(job.get("end_time"))
    if end is None or start is None or job_end is None:
        return False
    if not max(start, job_end - _NODE_BEFORE) <= end <= job_end + _NODE_AFTER:
        return False
    return not message.startswith("Expected termination") or bool(_PREEMPTED.search(message))


def _with_preemption(failure: Failure, lost: Mapping[str, Failure]) -> Failure:
    node = lost.get(failure.node_id)
    if failure.kind is not FailureKind.NODE_DIED or node is None:
        return failure
    return replace(failure, kind=node.kind)


def _with_memory(reason: str, message: str) -> str:
    found = _MEMORY.search(message)
    return f"{reason} ({found[1]} of {found[2]} GB in use)" if found else reason


def _environment_error(message: str) -> str:
    """Return the line of pip's error, or the last one that says something."""
    if errors := _PIP_ERROR.findall(message):
        return str(errors[-1]).strip()
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.strip().startswith("lease_id")]
    return lines[-1] if lines else "Ray does not say why"


def _text(row: Any, column: str) -> str:
    value = row.get(column) if isinstance(row, dict) else None
    return value if isinstance(value, str) else ""


def _pid(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None
