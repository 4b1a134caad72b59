"""Explain why a job did not succeed: what Ray reports, what it has recorded, and what to check next. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.failures.causes import causes_of, describe_causes
from airflow_provider_rayagent.failures.failure_kinds import FailureKind, headline
from airflow_provider_rayagent.failures.job_message import LOG_EXCERPT, exception_of_ray, kind_of_job
from airflow_provider_rayagent.services.jobs import MAX_TEXT, JobStatus, duration_of, known_status, shown_status
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.text.sanitization import MAX_NOTICE, sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.failures.causes import Cause, Group
    from airflow_provider_rayagent.failures.failure_look import FailureLook

MAX_FACT = 200
"""Characters of one detail; Ray's message has a limit of its own."""

_LIBRARIES = "check the libraries that the program loads."
_CRASHED = f"A process crashed in native code: {_LIBRARIES}"
_SIGNAL_HINTS = {
    -9: "Killed by SIGKILL, most often for lack of memory: check the memory of the node and of the job.",
    -11: f"Crashed in native code (SIGSEGV): {_LIBRARIES}",
    -15: "Terminated by SIGTERM: find out what sent it, such as the removal of a node.",
}
_HINTS = {
    "RUNTIME_ENV_SETUP_FAILURE": "Check the job's runtime_env: its packages, its working_dir, and whether the node "
    "can download them.",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": "Check whether the cluster has free CPUs, GPUs and memory for the job.",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": "Check the Ray cluster's own logs: the job could not be started.",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": "Check the resources that the job requests: no node of the cluster has them.",
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE": "Check the Ray cluster's own logs: Ray does not know why the job ended.",
    "JOB_SUPERVISOR_ACTOR_DIED": "Check the node that ran the job: the node or its Ray was lost or ran out of memory.",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR": "Check the entrypoint: its command could not be started on the node.",
}
_HINTS_BY_KIND = {
    FailureKind.NODE_DIED: "Check the nodes of the cluster: one was lost, or its Ray was.",
    FailureKind.WORKER_LOST: "Check the memory of the nodes, and the job's last lines: Ray does not know why the "
    "process was lost.",
    FailureKind.OUT_OF_MEMORY: "Give the job more memory, or let it run fewer tasks at once.",
    FailureKind.RUNTIME_ENV: "Check the runtime_env that the program gives to its tasks and actors.",
    FailureKind.RESOURCES: "Check the resources that the program's tasks and actors request.",
    FailureKind.PREEMPTED: "The provider of the machines took one away: let the job resume from its checkpoint, or use "
    "nodes that are not preempted.",
    FailureKind.STORAGE_FULL: "Give the nodes more disk or object store memory, or let the job keep fewer objects.",
}
"""Hints where Ray reports only an exit code."""
_CODES = {
    FailureKind.PROGRAM: Code.PROGRAM_FAILED,
    FailureKind.NODE_DIED: Code.PROCESS_LOST,
    FailureKind.WORKER_LOST: Code.PROCESS_LOST,
    FailureKind.OUT_OF_MEMORY: Code.OUT_OF_MEMORY,
    FailureKind.RUNTIME_ENV: Code.RUNTIME_ENV,
    FailureKind.RESOURCES: Code.LACKS_RESOURCES,
    FailureKind.START_TIMEOUT: Code.LACKS_RESOURCES,
    FailureKind.JOB_LOST: Code.RAY_FAILED,
    FailureKind.PREEMPTED: Code.PROCESS_LOST,
    FailureKind.STORAGE_FULL: Code.OUT_OF_MEMORY,
}
_UNKNOWN = "Check the job's last lines."
_PROGRAM_FAILED = "Check the job's last lines: the program itself failed."
# Exit codes of the shell (POSIX, "Shell Command Language", 2.8.2).
_EXIT_HINTS = {
    126: "The node cannot execute the command: check its permissions, or name its interpreter, such as `bash run.sh`.",
    127: "The node has no such command: check the entrypoint, and whether the image of the nodes or the runtime_env "
    "has it.",
}
_NO_FILE = re.compile(r"can't open file .+: \[Errno 2\]")
"""What Python says of a script that does not exist, before it exits with code 2 (``Modules/main.c``)."""
_NOT_UPLOADED = (
    "The node has no such file: the job has no working_dir, so no files were uploaded. Set working_dir to the folder "
    "with the program."
)
_NOT_IN_FOLDER = (
    "The working_dir has no such file: check the path in the entrypoint, which is relative to the working_dir, and "
    "whether a .gitignore or .rayignore leaves it out."
)


@dataclass(frozen=True)
class Explanation:
    """Why a job did not succeed.

    :param kind: what caused it; ``None``: unknown, or the job was not FAILED.
    :param text: one fact per line, safe for the task log; the first line says who failed, if that is known.
    :param causes: what Ray has recorded, the first cause first.
    """

    kind: FailureKind | None
    code: Code
    text: str
    causes: Sequence[Cause] = ()


def explain(
    job: Mapping[str, Any],
    job_id: str,
    look: FailureLook | None = None,
    *,
    log_is_shown: bool,
    link: str = "",
    redact: Callable[[str], str] = str,
) -> Explanation:
    """Explain why a job did not succeed.

    :param look: what Ray has recorded about the job, if it was asked.
    :param log_is_shown: whether the task log has the job's log; then the copy of its end in Ray's message is left out.
    :param link: URL of the job's page, empty if there is none.
    :param redact: redacts secrets.
    """
    groups = look.groups if look else ()
    seconds, kind = duration_of(job), _kind_of(job, groups)
    lines = [
        (f"{headline(kind, job.get('driver_exit_code'))} " if kind else "")
        + f"Job {job_id} ended as {shown_status(job, redact)}"
        + (f" after {seconds:.1f} s." if seconds is not None else ".")
    ]
    facts = [
        f"{name} {sanitize(str(job[key]), redact, length=MAX_FACT)}"
        for name, key in (("error", "error_type"), ("exit code", "driver_exit_code"), ("node", "driver_node_id"))
        # The exit code 0 is shown.
        if job.get(key) not in (None, "")
    ]
    if facts:
        lines.append(f"Details: {', '.join(facts)}.")
    message = str(job.get("message") or "").strip()
    if log_is_shown:
        message = message.partition(LOG_EXCERPT)[0]
    if message:
        # Indented, so that no line of it looks like one of ours.
        shown = sanitize(message, redact, length=MAX_TEXT, lines=True).replace("\n", "\n  ")
        lines.append(f"Ray's message: {shown}")
    causes = causes_of(groups, look.addresses, redact) if look else []
    if causes:
        lines += ["What Ray recorded:", *describe_causes(causes)]
    if look and look.note:
        lines.append(sanitize(look.note, redact, length=MAX_NOTICE))
    lines.append(_next_step(job, kind, groups))
    if link:
        lines.append(f"Job page: {link}")
    return Explanation(kind, _code_of(job, kind), "\n".join(lines), causes)


def _kind_of(job: Mapping[str, Any], groups: Sequence[Group]) -> FailureKind | None:
    """Return why a job FAILED: by Ray's records where they tell it, and else by Ray's message."""
    by_message = kind_of_job(job)
    if known_status(job) is not JobStatus.FAILED or not groups:
        return by_message
    lost = {each.node_id: each.kind for group in groups for each in group.failures if each.part == "node"}
    if by_message in (FailureKind.NODE_DIED, FailureKind.WORKER_LOST) and job.get("error_type") in _HINTS:
        # The process that ran the entrypoint died. Ray may not have known yet that its node did.
        return lost.get(str(job.get("driver_node_id")), by_message)
    ended_by = exception_of_ray(job)
    if ended_by is None:
        return _kind_of_environment(job, groups) or by_message
    told = [group.first for group in groups if group.first.kind is not None]
    if not ended_by:
        # The lines that would tell it are not available.
        kinds = {failure.kind for failure in told}
        return kinds.pop() if len(kinds) == 1 else by_message
    matching = [failure for failure in told if failure.error_type in _ERROR_TYPES.get(ended_by, ())]
    # Ray names the actor in the text of its exception.
    message = str(job.get("message"))
    matching = [failure for failure in matching if failure.part != "actor" or failure.key in message] or matching
    if not matching:
        return by_message
    causes = [failure for failure in told if not failure.follows] if matching[0].follows else matching
    return (causes or matching)[0].kind


def _kind_of_environment(job: Mapping[str, Any], groups: Sequence[Group]) -> FailureKind | None:
    """Return ``RUNTIME_ENV`` if the program was ended by the error of a runtime environment.

    Ray's exception quotes the traceback of that error, and does not tell that it is not the program's.
    """
    end = str(job.get("message") or "").rstrip().rpartition("\n")[2].strip()
    is_quoted = any(
        group.first.kind is FailureKind.RUNTIME_ENV and len(end) >= _MIN_ERROR and group.first.reason.endswith(end)
        for group in groups
    )
    return FailureKind.RUNTIME_ENV if is_quoted else None


_MIN_ERROR = 10
"""Characters of the shortest error that is recognized."""
_ACTOR = ("ACTOR_DIED", "ACTOR_UNAVAILABLE")
_ERROR_TYPES = {
    "RayTaskError": ("TASK_EXECUTION_EXCEPTION",),
    "WorkerCrashedError": ("WORKER_DIED",),
    "OutOfMemoryError": ("OUT_OF_MEMORY",),
    "NodeDiedError": ("NODE_DIED",),
    "LocalRayletDiedError": ("LOCAL_RAYLET_DIED",),
    "TaskCancelledError": ("TASK_CANCELLED",),
    "RuntimeEnvSetupError": ("RUNTIME_ENV_SETUP_FAILED",),
    "ActorDiedError": _ACTOR,
    "ActorUnavailableError": _ACTOR,
}
"""Ray's types of the failures that a program is told of by an exception."""


def _code_of(job: Mapping[str, Any], kind: FailureKind | None) -> Code:
    status = known_status(job)
    if status is JobStatus.FAILED:
        return _CODES[kind] if kind else Code.CAUSE_UNKNOWN
    return Code.JOB_STOPPED if status is JobStatus.STOPPED else Code.UNKNOWN_STATUS


def _next_step(job: Mapping[str, Any], kind: FailureKind | None, groups: Sequence[Group]) -> str:
    if known_status(job) is JobStatus.STOPPED:
        return "Find out who stopped the job: a user, another task, or the cluster. A stopped job is not retried."
    if known_status(job) is None:
        return "Check the job itself: Ray has no such status, so it counts as a failure."
    hint = _hint_for_exit_code(job)
    if hint:
        return hint
    if kind is FailureKind.WORKER_LOST and any(group.first.crashed_with for group in groups):
        return _CRASHED
    error_type = str(job.get("error_type"))
    # The hint for Ray's own type of error is more specific; but that for a dead actor only guesses at memory.
    if kind in _HINTS_BY_KIND and (error_type not in _HINTS or kind is FailureKind.OUT_OF_MEMORY):
        return _HINTS_BY_KIND[kind]
    return _HINTS.get(error_type, _PROGRAM_FAILED if kind is FailureKind.PROGRAM else _UNKNOWN)


def _hint_for_exit_code(job: Mapping[str, Any]) -> str:
    """Return what an exit code tells; empty if it tells nothing."""
    code = job.get("driver_exit_code")
    if not isinstance(code, int):
        return ""
    # Ray runs the entrypoint in a shell (`job_supervisor.py`), which reports signal N of its child as 128 + N.
    signal = 128 - code if code > 128 else code
    environment = job.get("runtime_env")
    if code == 2 and isinstance(environment, dict) and _NO_FILE.search(str(job.get("message"))):
        return _NOT_IN_FOLDER if environment.get("working_dir") else _NOT_UPLOADED
    return _SIGNAL_HINTS.get(signal) or _EXIT_HINTS.get(code, "")
