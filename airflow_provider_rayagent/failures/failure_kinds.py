"""Classify failures: what the platform did, and what the program did. Pure.

Ray reports a failure of the platform as such only if it hits the process that runs the entrypoint (``JobErrorType`` in
Ray's ``dashboard/modules/job/common.py``). If it hits a task or an actor, the program gets an exception of Ray
(``exceptions.py``), usually does not handle it, and exits with code 1. The exception then ends the log, of which Ray's
message about the job has the last 10 lines.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentResourcesError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.errors.transience import is_permanent
from airflow_provider_rayagent.services.jobs import JobStatus, known_status
from airflow_provider_rayagent.text.codes import coded

if TYPE_CHECKING:
    from collections.abc import Mapping

LOG_EXCERPT = ", last available logs"
"""Text in Ray's message before the last lines of the log."""
_MAX_EXCERPT = 20_000
"""Characters of them, Ray's own limit (``dashboard/modules/job/job_log_storage_client.py``)."""
UNHANDLED_EXCEPTION = 1
"""Python's exit code after one."""


# Also a str: the package errors keeps a kind in `failure_kind`, and may not import this module.
class FailureKind(str, Enum):
    """What caused a failure: the program, or what of the platform."""

    PROGRAM = "program"
    NODE_DIED = "node_died"
    WORKER_LOST = "worker_lost"
    OUT_OF_MEMORY = "out_of_memory"
    RUNTIME_ENV = "runtime_env"
    RESOURCES = "resources"
    START_TIMEOUT = "start_timeout"
    UNREACHABLE = "unreachable"
    JOB_LOST = "job_lost"
    PREEMPTED = "preempted"
    STORAGE_FULL = "storage_full"
    STALLED = "stalled"


_CAUSES = {
    FailureKind.NODE_DIED: "a node died",
    FailureKind.WORKER_LOST: "a worker process was lost",
    FailureKind.OUT_OF_MEMORY: "a node was low on memory, and Ray killed a worker process",
    FailureKind.RUNTIME_ENV: "the runtime environment could not be set up",
    FailureKind.RESOURCES: "the cluster lacks the requested resources",
    FailureKind.START_TIMEOUT: "the job did not start in time",
    FailureKind.UNREACHABLE: "the service was unreachable or failed",
    FailureKind.JOB_LOST: "Ray lost the job, or could not start it",
    FailureKind.PREEMPTED: "a node was preempted",
    FailureKind.STORAGE_FULL: "the object store or the disk of a node was full",
    FailureKind.STALLED: "the job stalled",
}
_KINDS_BY_ERROR_TYPE = {
    "RUNTIME_ENV_SETUP_FAILURE": FailureKind.RUNTIME_ENV,
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": FailureKind.START_TIMEOUT,
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": FailureKind.JOB_LOST,
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": FailureKind.RESOURCES,
    "JOB_SUPERVISOR_ACTOR_DIED": FailureKind.WORKER_LOST,
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE": FailureKind.JOB_LOST,
    "JOB_ENTRYPOINT_COMMAND_START_ERROR": FailureKind.JOB_LOST,
}
_DIED = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")
"""Types whose message tells why the process that runs the entrypoint died; the second one if Ray killed it."""
_COMMAND_FAILED = "JOB_ENTRYPOINT_COMMAND_ERROR"
_KINDS_BY_EXCEPTION = {
    "NodeDiedError": FailureKind.NODE_DIED,
    "LocalRayletDiedError": FailureKind.NODE_DIED,
    "WorkerCrashedError": FailureKind.WORKER_LOST,
    # Also while Ray does not know yet that the actor's node died.
    "ActorUnavailableError": FailureKind.WORKER_LOST,
    "OutOfMemoryError": FailureKind.OUT_OF_MEMORY,
    "RuntimeEnvSetupError": FailureKind.RUNTIME_ENV,
    "TaskUnschedulableError": FailureKind.RESOURCES,
    "ActorUnschedulableError": FailureKind.RESOURCES,
    "ObjectStoreFullError": FailureKind.STORAGE_FULL,
    "OutOfDiskError": FailureKind.STORAGE_FULL,
    # What a function that Ray Data calls has raised (``data/_internal/planner``).
    "UserCodeException": FailureKind.PROGRAM,
    # The exception of a task.
    "RayTaskError": FailureKind.PROGRAM,
}
"""Other exceptions of Ray do not tell who caused them, such as that of an object that was lost."""
_OF_ANOTHER_FAILURE = re.compile(
    r"ray\.exceptions\.(?:RayTaskError|RayActorError|ActorDiedError|ActorUnavailableError|WorkerCrashedError|"
    r"NodeDiedError|LocalRayletDiedError|OutOfMemoryError|Object\w*Lost\w*|ObjectReconstruction\w*|OwnerDiedError|"
    r"TaskCancelledError|TaskUnschedulableError|ActorUnschedulableError|RuntimeEnvSetupError)\b"
)
"""An exception that a task gets since another task, an actor or a node has failed."""
_KINDS_BY_WORDS = {
    "due to the node running low on memory": FailureKind.OUT_OF_MEMORY,
    "its node has died": FailureKind.NODE_DIED,
    # A process that ended by itself: sys.exit in an actor.
    "exits with an exit code": FailureKind.PROGRAM,
    "INTENDED_USER_EXIT": FailureKind.PROGRAM,
    "placement group was removed": FailureKind.PROGRAM,
    "its worker process has died": FailureKind.WORKER_LOST,
    "killed by `ray.kill`": FailureKind.PROGRAM,
    "references to the actor were removed": FailureKind.PROGRAM,
    "error raised in its creation task": FailureKind.PROGRAM,
}
"""Words of Ray about a dead actor (the message of ``ActorDiedError``); the first that are found count."""
_END_OF_KILLERS_TEXT = "Refer to the documentation on how to address the out of memory issue: https://docs.ray.io"
_RAYLETS_LINE = "] (raylet) "
_EXCEPTION_OF_RAY = re.compile(r"ray\.exceptions\.(\w+)")
_KINDS_BY_TRAIN_EXCEPTION = {
    "PreemptionError": FailureKind.PREEMPTED,
    # A collective operation that waits for a worker which does not answer (``train/v2/api/exceptions.py``).
    "NCCLHangError": FailureKind.WORKER_LOST,
}
_WRAPPER = re.compile(r"ray\.(?:train|tune)\.(?:\w+\.)*(\w+Error)\b")
"""An exception such as ``TrainingFailedError``, which does not tell the cause. The one that it was raised from does."""
_RAISED_FROM = "The above exception was the direct cause of the following exception:"
_RAYS_TEXT = re.compile(
    r"$|\t|    \[\d{4}-|\[\d{4}-\d\d-\d\d \S+ [A-Z] \d+ \d+\] |PID\tMEM|\d+\t|"
    r"(?:The actor (?:died because|is dead because|never ran) |The node IP: |This can happen if |Memory on the node |"
    r"Refer to the documentation on |To see node death information)"
)
"""A line that can follow the first one of an exception of Ray: its own text, or the log of Ray's core."""
_EXCEPTION_LINE = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Timeout)\b")
_FRAME_HEAD = re.compile(r"\s+File \".*\", line \d+")
_USER_CODE = "ray.exceptions.UserCodeException"
_FRAME = re.compile(r"  +(?!\[\d{4}-)\S")
"""A line of a traceback, but not of a raylet's log, which Ray appends to that of the program when the raylet dies."""
_FROM_ELSEWHERE = re.compile(r"(?:\x1b\[[\d;]*m)*\(")
"""A line of a worker or of Ray, such as ``(raylet) …``."""


def kind_of_job(job: Mapping[str, Any]) -> FailureKind | None:
    """Return why a job FAILED; ``None`` if that is unknown, or if it has another status."""
    if known_status(job) is not JobStatus.FAILED:
        return None
    error_type, message = str(job.get("error_type")), str(job.get("message") or "")
    if error_type != _COMMAND_FAILED:
        by_words = kind_by_words(message) if error_type in _DIED else None
        # The process that runs the entrypoint is Ray's.
        return by_words if by_words not in (None, FailureKind.PROGRAM) else _KINDS_BY_ERROR_TYPE.get(error_type)
    if job.get("driver_exit_code") != UNHANDLED_EXCEPTION:
        return FailureKind.PROGRAM
    return _ending(_own_lines(job)).kind


def exception_of_ray(job: Mapping[str, Any]) -> str | None:
    """Return the type of Ray's exception that ended the program of a FAILED job, such as ``ActorDiedError``.

    :return: empty if Ray's message does not have the lines that would tell it; ``None`` if something else has ended the
        program, such as an exception of its own.
    """
    if job.get("error_type") != _COMMAND_FAILED or job.get("driver_exit_code") != UNHANDLED_EXCEPTION:
        return None
    lines = _own_lines(job)
    if not lines and LOG_EXCERPT in str(job.get("message")):
        # Lines of workers have displaced all of the program's.
        return ""
    return _ending(lines).exception


def _own_lines(job: Mapping[str, Any]) -> list[str]:
    """Return the last lines of the program itself in Ray's message about a job."""
    # The rest of that line is ` (truncated to 20,000 chars):` (`job_supervisor.py`).
    text = str(job.get("message") or "").partition(LOG_EXCERPT)[2].partition("\n")[2][-_MAX_EXCERPT:]
    # Workers and Ray write into the same log meanwhile, also in the middle of a traceback.
    return [line for line in text.rstrip().split("\n") if line and not _FROM_ELSEWHERE.match(line)]


def kind_of_error(error: BaseException) -> FailureKind | None:
    """Return what caused the failure of a task; ``None`` if that is unknown or something else, such as a setting."""
    if not isinstance(error, RayAgentError):
        return None
    if error.failure_kind is not None:
        return FailureKind(error.failure_kind)
    if isinstance(error, RayAgentResourcesError):
        return FailureKind.RESOURCES
    answered = isinstance(error, (RayAgentConnectionError, RayAgentHTTPError, RayAgentResponseError))
    return FailureKind.UNREACHABLE if answered and not is_permanent(error) else None


def headline(kind: FailureKind, exit_code: object = None) -> str:
    """Return a sentence about what caused a failure."""
    if kind is not FailureKind.PROGRAM:
        return f"Platform failure: {_CAUSES[kind]}."
    is_code = isinstance(exit_code, int) and not isinstance(exit_code, bool)
    return f"The program failed: exit code {exit_code}." if is_code else "The program failed."


def summarize_error(error: BaseException, kind: FailureKind) -> str:
    """Return one line about a failed task that begins with the :func:`headline` of its kind."""
    text, sentence = error.detail if isinstance(error, RayAgentError) else str(error), headline(kind)
    line = text.partition("\n")[0]
    if not line.startswith(sentence.rstrip(".")):
        line = f"{sentence} {line}"
    return coded(error.code, line) if isinstance(error, RayAgentError) else line


class _Ending(NamedTuple):
    """What a program was ended by.

    :param exception: see :func:`exception_of_ray`.
    :param kind: what it tells about the cause; ``None``: nothing.
    """

    exception: str | None
    kind: FailureKind | None


_BY_PROGRAM = _Ending(None, FailureKind.PROGRAM)
_UNKNOWN = _Ending("", None)


def _ending(lines: list[str]) -> _Ending:
    """Return what ended a program with an unhandled exception.

    :param lines: its last ones.
    """
    index = _last_exception(lines)
    if index is None:
        # Other text of Ray can have more lines than are available: that about its killer, or the log of a dead raylet.
        if lines and lines[-1].startswith(_END_OF_KILLERS_TEXT):
            return _Ending("", FailureKind.OUT_OF_MEMORY)
        if any(_RAYLETS_LINE in line for line in lines):
            return _UNKNOWN
        return _BY_PROGRAM
    if not is_exception_of_ray(lines[index]):
        return _BY_PROGRAM
    kind = kind_of_exception("\n".join(lines[index:]))
    name = _EXCEPTION_OF_RAY.match(lines[index])
    if name is None:
        above = _lines_of_cause(lines[:index])
        cause = _ending(above) if above else _UNKNOWN
        return _Ending(cause.exception or "", kind or cause.kind)
    # A program that goes on has handled the exception, and fails for another reason.
    if not all(map(_RAYS_TEXT.match, lines[index + 1 :])):
        return _Ending(None, kind if kind is FailureKind.PROGRAM else None)
    return _Ending(name[1], kind)


def _lines_of_cause(lines: list[str]) -> list[str]:
    """Return the lines about the exception that another one was raised from; empty if they are not available.

    :param lines: those before the other one.
    """
    if _RAISED_FROM not in lines:
        return []
    above = lines[: len(lines) - 1 - lines[::-1].index(_RAISED_FROM)]
    return above if _last_exception(above) is not None else []


def _last_exception(lines: list[str]) -> int | None:
    """Return the index of the first line of the last exception; ``None`` if there is none."""
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        if _EXCEPTION_OF_RAY.match(line):
            return index
        # The exception follows the source code of the last frame, or the markers below it, which are indented alike.
        if index > 0 and _FRAME.match(lines[index - 1]) and line.strip() and line[0] not in " \t":
            return index
    return None


def last_exception(text: str) -> str | None:
    """Return the type and the message of the exception that ends a traceback, in one line; ``None`` if there is none.

    :param text: a traceback, or its end: Ray keeps the last 500 characters.
    """
    lines = text.rstrip().split("\n")
    frames = [index for index, line in enumerate(lines) if _FRAME_HEAD.match(line)]
    if frames:
        # The source code of the frame, and the markers below it, are indented. A message may have further lines.
        found = next((line for line in lines[frames[-1] + 1 :] if line.strip() and line[0] not in " \t"), None)
    else:
        index = _last_exception(lines)
        # Of the frames, nothing may be left.
        found = lines[index] if index is not None else next(filter(_EXCEPTION_LINE.match, reversed(lines)), None)
    if found is not None and found.startswith(_USER_CODE) and _RAISED_FROM in lines:
        return last_exception("\n".join(_lines_of_cause(lines))) or found.strip()
    return found.strip() if found is not None else None


def is_exception_of_ray(line: str) -> bool:
    """Return whether a line is the first one of an exception of Ray, which does not tell of an error in the program."""
    return (_EXCEPTION_OF_RAY.match(line) or _WRAPPER.match(line)) is not None


def follows_from_another(line: str) -> bool:
    """Return whether an exception tells that something else has failed, of which Ray has a record of its own."""
    return _OF_ANOTHER_FAILURE.match(line) is not None


def kind_of_exception(text: str) -> FailureKind | None:
    """Return what an exception of Ray tells about its cause; ``None`` if it does not.

    :param text: it begins with the type.
    """
    if wrapper := _WRAPPER.match(text):
        return _KINDS_BY_TRAIN_EXCEPTION.get(wrapper[1])
    name = _EXCEPTION_OF_RAY.match(text)
    return (_KINDS_BY_EXCEPTION.get(name[1]) if name else None) or kind_by_words(text)


def kind_by_words(text: str) -> FailureKind | None:
    """Return what Ray's text about a dead actor tells about its cause; ``None`` if it does not."""
    return next((kind for words, kind in _KINDS_BY_WORDS.items() if words in text), None)
