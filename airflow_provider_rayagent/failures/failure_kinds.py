"""The kinds of failures: what the platform did, and what the program did. Pure."""

from __future__ import annotations

from enum import Enum

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentResourcesError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.errors.transience import is_permanent
from airflow_provider_rayagent.text.codes import coded


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

    def __str__(self) -> str:
        return self.value


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
