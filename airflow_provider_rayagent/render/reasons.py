"""Explain in the task log why a job did not succeed: what Ray reports, and what to check next. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.render.failure_kinds import LOG_EXCERPT, FailureKind, headline, kind_of_job
from airflow_provider_rayagent.services.jobs import MAX_TEXT, JobStatus, duration_of, known_status, shown_status
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_FACT = 200
"""Characters of one detail; Ray's message has a limit of its own."""

_SIGNAL_HINTS = {
    -9: "Killed by SIGKILL, most often for lack of memory: check the memory of the node and of the job.",
    -11: "Crashed in native code (SIGSEGV): check the libraries that the program loads.",
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
}
_PROGRAM_FAILED = "Check the job's last lines: the program itself failed."


def explain(
    job: Mapping[str, Any],
    job_id: str,
    *,
    log_is_shown: bool,
    link: str = "",
    redact: Callable[[str], str] = str,
) -> str:
    """Return why a job did not succeed, one fact per line; the first one says who failed, if that is known.

    :param log_is_shown: whether the task log has the job's log; then the copy of its end in Ray's message is left out.
    :param link: URL of the job's page, empty if there is none.
    :param redact: redacts secrets.
    """
    seconds, kind = duration_of(job), kind_of_job(job)
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
        lines.append(f"Ray's message: {sanitize(message, redact, length=MAX_TEXT, lines=True)}")
    lines.append(_next_step(job))
    if link:
        lines.append(f"Job page: {link}")
    return "\n".join(lines)


def code_of_job(job: Mapping[str, Any]) -> Code:
    """Return the code of a job that did not succeed."""
    status, kind = known_status(job), kind_of_job(job)
    if status is JobStatus.FAILED:
        return _CODES[kind] if kind else Code.CAUSE_UNKNOWN
    return Code.JOB_STOPPED if status is JobStatus.STOPPED else Code.UNKNOWN_STATUS


def _next_step(job: Mapping[str, Any]) -> str:
    if known_status(job) is JobStatus.STOPPED:
        return "Find out who stopped the job: a user, another task, or the cluster. A stopped job is not retried."
    if known_status(job) is None:
        return "Check the job itself: Ray has no such status, so it counts as a failure."
    code = job.get("driver_exit_code")
    # Ray runs the entrypoint in a shell (`job_supervisor.py`), which reports signal N of its child as 128 + N.
    if isinstance(code, int) and (128 - code if code > 128 else code) in _SIGNAL_HINTS:
        return _SIGNAL_HINTS[128 - code if code > 128 else code]
    kind, error_type = kind_of_job(job), str(job.get("error_type"))
    # The hint for Ray's own type of error is more specific; but that for a dead actor only guesses at memory.
    if kind in _HINTS_BY_KIND and (error_type not in _HINTS or kind is FailureKind.OUT_OF_MEMORY):
        return _HINTS_BY_KIND[kind]
    return _HINTS.get(error_type, _PROGRAM_FAILED)
