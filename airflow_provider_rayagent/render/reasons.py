"""Why a job did not succeed, for one who has only the task log: what Ray says, and what to look at next. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.jobs import MAX_TEXT, JobStatus, duration_of, known_status, shown_status
from airflow_provider_rayagent.text.showable import showable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_FACT = 200
"""Characters of one fact that is not Ray's message."""

_LOG_EXCERPT = ", last available logs"
"""What Ray puts into its message before the log's last lines."""
_KILLED = {
    -9: "a KILL from outside, most often for lack of memory: look at the memory of the node and of the job",
    -11: "a crash of native code (SIGSEGV): look at the libraries that the program loads",
    -15: "a TERM from outside: look at what ended it, such as a node that was taken away",
}
_HINTS = {
    "RUNTIME_ENV_SETUP_FAILURE": "the job's runtime_env: its packages, its working_dir, and whether the node may "
    "download them",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": "whether the cluster has room for the job: its CPUs, GPUs and memory",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": "the Ray cluster's own logs: the job could not be started",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": "the resources that the job asks for: no node of the cluster has them",
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE": "the Ray cluster's own logs: Ray does not know why the job ended",
    "JOB_SUPERVISOR_ACTOR_DIED": "the node on which the job ran: it, or Ray on it, was lost or ran out of memory",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR": "the entrypoint: its command could not be started on the node",
}
_PROGRAM = "the job's last lines: the program itself failed"


def explain(
    job: Mapping[str, Any],
    job_id: str,
    *,
    log_is_shown: bool,
    link: str = "",
    redact: Callable[[str], str] = str,
) -> str:
    """Return what became of a job that did not succeed, one fact a line.

    :param log_is_shown: whether the job's log is in the task log, so that Ray need not repeat its end.
    :param link: the address of the job's page, if there is one.
    :param redact: takes secrets out of what is not ours.
    """
    seconds = duration_of(job)
    lines = [
        f"Job {job_id} ended as {shown_status(job, redact)}"
        + (f" after {seconds:.1f} s." if seconds is not None else ".")
    ]
    facts = [
        f"{name} {showable(str(job[key]), redact, length=MAX_FACT)}"
        for name, key in (("error", "error_type"), ("exit code", "driver_exit_code"), ("node", "driver_node_id"))
        if job.get(key) not in (None, "")
    ]
    if facts:
        lines.append(f"Known of it: {', '.join(facts)}.")
    message = str(job.get("message") or "").strip()
    if log_is_shown:
        message = message.partition(_LOG_EXCERPT)[0]
    if message:
        lines.append(f"Ray says: {showable(message, redact, length=MAX_TEXT, lines=True)}")
    lines.append(f"Look at {_look_at(job)}.")
    if link:
        lines.append(f"The job's page: {link}")
    return "\n".join(lines)


def _look_at(job: Mapping[str, Any]) -> str:
    if known_status(job) is JobStatus.STOPPED:
        return "who stopped the job: a user, another task, or the cluster; a stopped job is not retried"
    if known_status(job) is None:
        return "the job itself: Ray has no such status, so that it counts as a failure"
    code = job.get("driver_exit_code")
    if isinstance(code, int) and (128 - code if code > 128 else code) in _KILLED:
        return _KILLED[128 - code if code > 128 else code]
    return _HINTS.get(str(job.get("error_type")), _PROGRAM)
