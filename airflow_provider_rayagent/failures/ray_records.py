"""What Ray's records of tasks, actors, workers and nodes say about the failed parts of a job. Pure.

The columns are those of the state API (``util/state/common.py`` in Ray), whose values come from the job's own code as
well: nothing here may fail for a value of another type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.failures.ray_exceptions import (
    follows_from_another,
    is_exception_of_ray,
    kind_by_words,
    kind_of_exception,
    last_exception,
)
from airflow_provider_rayagent.services.jobs import milliseconds
from airflow_provider_rayagent.services.state_columns import attempt_of, pid_of, text_of
from airflow_provider_rayagent.text.amounts import shown_number
from airflow_provider_rayagent.text.times import shown_clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_rayagent.services.ray_responses import NodeUsage

    Row = Mapping[str, Any]
    Told = tuple[FailureKind | None, str]

Part = Literal["task", "actor", "node"]

MAX_MESSAGE = 20_000
"""Characters at the end of an error that are read. Those of runtime environments are long."""
_DRIVERS_END = "as driver exits"
"""Words about a task that was open when the driver ended, which Ray lists as failed (GCS: ``gcs_task_manager.cc``)."""
_AS_IT_SHOULD = re.compile(r"owner has died|because the owner|references to the actor|out of scope")
"""Words about the death of an actor that ended as it should, at the end of the driver at the latest."""
_INTENDED = re.compile(r"killed by `?ray\.kill|INTENDED_USER_EXIT|exit_actor")
"""Words about the death of an actor that the program itself may have wanted."""
_DIED = "its process died, and Ray does not know why"
_LOW_ON_MEMORY = "its node was low on memory, and Ray killed the process"
_GROUP_REMOVED = "its placement group was removed"
_MEMORY = re.compile(r"was ([\d.]+) ?GB(?: used)? / ([\d.]+) ?GB")
"""In ``Memory on the node (IP: …) was 30.20GB used / 32.00GB limit (0.94)``, without the words in 2.50."""
_EXIT_CODE = re.compile(r"exits? with an exit code (-?\d+)")
_PIP_ERROR = re.compile(r"^[ \t]*(?:ERROR|error): .*", re.MULTILINE)
_CLOCK_DIFFERENCE = 60_000.0
"""By how much the clocks of nodes may differ, in ms."""

_EXCEPTION = "TASK_EXECUTION_EXCEPTION"
_ERRORS: dict[str, Told] = {
    "WORKER_DIED": (FailureKind.WORKER_LOST, _DIED),
    "OUT_OF_MEMORY": (FailureKind.OUT_OF_MEMORY, _LOW_ON_MEMORY),
    "NODE_DIED": (FailureKind.NODE_DIED, "its node was lost"),
    "LOCAL_RAYLET_DIED": (FailureKind.NODE_DIED, "the Ray of its node died"),
    "RUNTIME_ENV_SETUP_FAILED": (FailureKind.RUNTIME_ENV, "its runtime environment could not be set up"),
    "TASK_CANCELLED": (FailureKind.PROGRAM, "it was canceled"),
    "TASK_PLACEMENT_GROUP_REMOVED": (FailureKind.PROGRAM, _GROUP_REMOVED),
    "ACTOR_PLACEMENT_GROUP_REMOVED": (FailureKind.PROGRAM, _GROUP_REMOVED),
    "TASK_UNSCHEDULABLE_ERROR": (FailureKind.RESOURCES, "no node could run it"),
    "ACTOR_UNSCHEDULABLE_ERROR": (FailureKind.RESOURCES, "no node could run it"),
    "OUT_OF_DISK_ERROR": (FailureKind.STORAGE_FULL, "the disk of its node was full"),
}
"""By Ray's type of the error of a task (``ErrorType`` in ``common.proto``)."""
_OF_CALLS = (_EXCEPTION, "TASK_CANCELLED", "DEPENDENCY_RESOLUTION_FAILED")
"""Types of the errors of a call of an actor of which the actor is not the cause."""
_ERRORS_BY_DEATH = {
    "runtime_env_failed_context": "RUNTIME_ENV_SETUP_FAILED",
    "actor_unschedulable_context": "ACTOR_UNSCHEDULABLE_ERROR",
    "oom_context": "OUT_OF_MEMORY",
}
"""The type of the error by the field of a dead actor's ``death_cause`` (``ActorDeathCause`` in ``common.proto``)."""
_CREATION, _DEATH = "creation_task_failure_context", "actor_died_error_context"
_DEATHS_BY_KIND = {
    FailureKind.NODE_DIED: "its node was lost",
    FailureKind.OUT_OF_MEMORY: _LOW_ON_MEMORY,
    FailureKind.WORKER_LOST: _DIED,
    FailureKind.PROGRAM: "the program ended it",
}


@dataclass(frozen=True)
class Failure:
    """A task that failed, an actor that died or did not answer, or a node that was lost.

    :param key: id of the task, the actor or the node.
    :param name: of the function or the class; empty for a node.
    :param error_type: Ray's type of the error of a task; ``ACTOR_DIED`` and ``ACTOR_UNAVAILABLE`` for an actor.
    :param reason: what happened, as in ``its node was lost``; of an exception its type and message.
    :param group_by: what failures with the same kind of reason have in common, such as the type of the exception.
    :param at: in ms since the epoch; ``None``: unknown.
    :param attempt: number of the task's attempt, from 0.
    :param task_id: the task of which a later attempt may have succeeded; empty if there can be none.
    :param calls: ids of the actor's calls that failed with it.
    :param stderr_file: name of the file with the task's standard error, on its node; empty if it is unknown.
    :param follows: whether it follows from another failure.
    :param crashed_with: the signal of a crash in native code; empty if there is none.
    """

    part: Part
    key: str
    name: str
    kind: FailureKind | None
    error_type: str
    reason: str
    group_by: str
    at: float | None = None
    node_id: str = ""
    pid: int | None = None
    worker_id: str = ""
    attempt: int = 0
    task_id: str = ""
    calls: frozenset[str] = frozenset()
    stderr_file: str = ""
    follows: bool = False
    crashed_with: str = ""

    @property
    def process_died(self) -> bool:
        """Whether its process died for a reason that Ray's records do not tell."""
        # That which got an exception about the death of another one is alive.
        has_raised = self.follows or self.error_type == _EXCEPTION
        return self.part != "node" and self.kind is FailureKind.WORKER_LOST and not has_raised


def failures_of(job: Row, tasks: Iterable[Row], actors: Iterable[Row]) -> list[Failure]:
    """Return what failed in a job, nodes aside.

    :param job: its details.
    :param tasks: the failed attempts of the job's tasks.
    :param actors: the dead actors of the job.
    """
    rows = [row for row in tasks if _is_failure_of(job, row)]
    calls: dict[str, list[Row]] = {}
    # The last attempt of each task.
    failed: dict[str, Failure] = {}
    for row in sorted(rows, key=attempt_of):
        if _is_of_actor(row):
            calls.setdefault(text_of(row, "actor_id"), []).append(row)
        else:
            failed[text_of(row, "task_id") or str(id(row))] = _task_failure(row)
    dead = [_actor_failure(actor, calls.pop(text_of(actor, "actor_id"), [])) for actor in actors]
    # Actors of an agent, which does not list them, and those that do not answer but are not known to be dead.
    silent = [_failure_of_calls({"actor_id": actor_id}, each) for actor_id, each in calls.items()]
    return [*failed.values(), *(each for each in dead if each is not None), *silent]


def succeeded_later(rows: Iterable[Row], failure: Failure) -> bool:
    """Return whether a later attempt succeeded, or still ran at the end of the driver.

    :param rows: all attempts of the task.
    """
    return any(
        attempt_of(row) > failure.attempt and (row.get("state") != "FAILED" or _DRIVERS_END in _message(row))
        for row in rows
    )


def with_end_of_worker(failure: Failure, worker: Row) -> Failure:
    """Return a failure with what the record of its worker process tells."""
    failure = replace(
        failure,
        pid=failure.pid or pid_of(worker),
        node_id=failure.node_id or text_of(worker, "node_id"),
        at=failure.at or milliseconds(worker.get("end_time_ms")),
    )
    if not failure.process_died and failure.kind is not FailureKind.OUT_OF_MEMORY:
        return failure
    detail = text_of(worker, "exit_detail")
    if worker.get("exit_type") == "NODE_OUT_OF_MEMORY" or "running low on memory" in detail:
        return replace(failure, kind=FailureKind.OUT_OF_MEMORY, reason=_with_memory(_LOW_ON_MEMORY, detail))
    kind, reason = _ended(detail)
    return replace(failure, kind=kind, reason=reason) if kind is FailureKind.PROGRAM else failure


def with_memory_of_node(failure: Failure, usage: NodeUsage) -> Failure:
    """Return the failure of a process that died for an unknown reason, with what its node said of its memory."""
    if usage.memory is None or usage.measured_at is None:
        return failure
    used, total = usage.memory
    in_use = f"{shown_number('memory', used)} of {shown_number('memory', total)} GiB in use"
    return replace(
        failure, reason=f"{failure.reason}; memory of its node at {shown_clock(usage.measured_at)}: {in_use}"
    )


def _is_failure_of(job: Row, row: Row) -> bool:
    """Return whether a failed attempt is a failure of the job, and no consequence of its end."""
    if row.get("state") != "FAILED" or row.get("error_type") == "OWNER_DIED" or _DRIVERS_END in _message(row):
        return False
    end, at = milliseconds(job.get("end_time")), milliseconds(row.get("end_time_ms"))
    return end is None or at is None or at <= end + _CLOCK_DIFFERENCE


def _is_of_actor(row: Row) -> bool:
    """Return whether the failure of a task is that of its actor."""
    kind = row.get("type")
    return kind == "ACTOR_CREATION_TASK" or (kind == "ACTOR_TASK" and row.get("error_type") not in _OF_CALLS)


def _task_failure(row: Row) -> Failure:
    error_type, message = text_of(row, "error_type"), _message(row)
    kind, reason = _told(error_type, message)
    log = row.get("task_log_info")
    return Failure(
        "task",
        text_of(row, "task_id"),
        text_of(row, "func_or_class_name") or text_of(row, "name"),
        kind,
        error_type,
        reason,
        reason.partition(":")[0] if error_type == _EXCEPTION else error_type,
        at=milliseconds(row.get("end_time_ms")),
        node_id=text_of(row, "node_id"),
        pid=pid_of(row, "worker_pid"),
        worker_id=text_of(row, "worker_id"),
        attempt=attempt_of(row),
        task_id=text_of(row, "task_id"),
        stderr_file=text_of(log, "stderr_file") if isinstance(log, dict) else "",
        follows=error_type == "DEPENDENCY_RESOLUTION_FAILED"
        or (error_type == _EXCEPTION and follows_from_another(reason)),
    )


def _told(error_type: str, message: str) -> Told:
    """Return what the error of a task tells: the kind, and the reason."""
    if error_type == _EXCEPTION:
        reason = last_exception(message) or "an exception"
        return kind_of_exception(reason) if is_exception_of_ray(reason) else FailureKind.PROGRAM, reason
    kind, reason = _ERRORS.get(error_type, (None, f"Ray reports {error_type or 'no reason'}"))
    if error_type == "RUNTIME_ENV_SETUP_FAILED":
        return kind, f"{reason}: {_environment_error(message)}"
    if error_type == "WORKER_DIED":
        return _ended(message) if kind_by_words(message) is FailureKind.PROGRAM else (kind, reason)
    return kind, _with_memory(reason, message)


def _actor_failure(actor: Row, calls: Sequence[Row]) -> Failure | None:
    """Return the death of an actor; ``None`` if it is none that a job can fail from.

    :param calls: its calls that failed with it, and the failed task that should have created it.
    """
    cause = actor.get("death_cause")
    field, context = next(iter(cause.items()), ("", None)) if isinstance(cause, dict) else ("", None)
    context = context if isinstance(context, dict) else {}
    message = (text_of(context, "error_message") or text_of(context, "formatted_exception_string"))[-MAX_MESSAGE:]
    failed = [row for row in calls if row.get("type") == "ACTOR_TASK"]
    if field == _DEATH and (context.get("reason") == "OWNER_DIED" or _AS_IT_SHOULD.search(message)):
        return _failure_of_calls(actor, failed) if failed else None
    if field == _DEATH and _INTENDED.search(message):
        # A program that ends its actors in any case may do so after they have failed.
        if not failed or not all(_INTENDED.search(_message(row)) for row in failed):
            return _failure_of_calls(actor, failed) if failed else None
    elif not failed and actor.get("is_detached") is True:
        return None
    kind, reason, follows = _death(field, message)
    failure = _with_calls(actor, calls, kind, reason, follows=follows)
    return replace(
        failure,
        node_id=text_of(actor, "node_id") or text_of(context, "node_id") or failure.node_id,
        pid=pid_of(actor) or pid_of(context) or failure.pid,
        # That of a call may be another one's.
        worker_id="",
    )


def _death(field: str, message: str) -> tuple[FailureKind | None, str, bool]:
    """Return what the death of an actor tells: the kind, the reason, and whether it follows from another failure."""
    if field == _CREATION:
        kind, error = _told(_EXCEPTION, message)
        return kind, f"its constructor failed: {error}", follows_from_another(error)
    if field in _ERRORS_BY_DEATH:
        return *_told(_ERRORS_BY_DEATH[field], message), False
    return *_ended(message), False


def _ended(message: str) -> Told:
    """Return what Ray's text about a process that ended tells."""
    if code := _EXIT_CODE.search(message):
        return FailureKind.PROGRAM, f"its process ended with exit code {code[1]}"
    kind = kind_by_words(message)
    if kind is None:
        return None, "Ray does not say why"
    if kind is FailureKind.PROGRAM and "placement group" in message:
        return kind, _GROUP_REMOVED
    if kind is FailureKind.PROGRAM and "ray.kill" in message:
        return kind, "the program killed it with ray.kill"
    return kind, _with_memory(_DEATHS_BY_KIND[kind], message)


def _failure_of_calls(actor: Row, calls: Sequence[Row]) -> Failure:
    """Return the failure of an actor by what its failed calls tell, since its own record does not."""
    first = _first(calls)
    error_type, message = text_of(first, "error_type"), _message(first)
    if first.get("type") == "ACTOR_CREATION_TASK" and error_type == _EXCEPTION:
        kind, reason, follows = _death(_CREATION, message)
    elif error_type == "ACTOR_UNAVAILABLE":
        kind, reason, follows = FailureKind.WORKER_LOST, "", False
    else:
        kind, reason = _told(error_type, message) if error_type in _ERRORS else _ended(message)
        follows = False
    failure = _with_calls(actor, calls, kind, reason, follows=follows)
    # The actor may have been restarted.
    return replace(failure, error_type=error_type, task_id=min(failure.calls, default=""))


def _with_calls(
    actor: Row, calls: Sequence[Row], kind: FailureKind | None, reason: str, *, follows: bool = False
) -> Failure:
    first = _first(calls)
    name = text_of(first, "func_or_class_name") or text_of(first, "name")
    return Failure(
        "actor",
        text_of(actor, "actor_id"),
        # ``Trainer.step`` is a method.
        text_of(actor, "class_name") or name.rpartition(".")[0] or name,
        kind,
        "ACTOR_DIED",
        reason,
        reason.partition(":")[0],
        at=milliseconds(first.get("end_time_ms")),
        node_id=text_of(first, "node_id"),
        pid=pid_of(first, "worker_pid"),
        worker_id=text_of(first, "worker_id"),
        attempt=max(map(attempt_of, calls), default=0),
        calls=frozenset(text_of(row, "task_id") for row in calls if row.get("type") == "ACTOR_TASK"),
        follows=follows,
    )


def _first(rows: Sequence[Row]) -> Row:
    return min(rows, key=lambda row: milliseconds(row.get("end_time_ms")) or float("inf"), default={})


def _with_memory(reason: str, message: str) -> str:
    found = _MEMORY.search(message) if reason == _LOW_ON_MEMORY else None
    return f"{reason} ({found[1]} of {found[2]} GB in use)" if found else reason


def _environment_error(message: str) -> str:
    """Return the line of pip's error, or the last one that says something."""
    if errors := _PIP_ERROR.findall(message):
        return str(errors[-1]).strip()
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.strip().startswith("lease_id")]
    return lines[-1] if lines else "Ray does not say why"


def _message(row: Row) -> str:
    return text_of(row, "error_message")[-MAX_MESSAGE:]
