"""Print and follow the log of a job: its lines to stdout, everything else to stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.cli.exit_codes import ExitCode, exit_code_of, report
from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentNotFoundError
from airflow_provider_rayagent.failures.explanation import explain
from airflow_provider_rayagent.hooks.log_lines import DEFAULT_MAX_LINE_LENGTH
from airflow_provider_rayagent.render.record_builder import DisplaySettings
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.run.failed_job import look_at_failure
from airflow_provider_rayagent.run.follow import Sink, follow
from airflow_provider_rayagent.run.job_watch import JobWatch
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.services.job_secrets import secrets_of
from airflow_provider_rayagent.services.jobs import JobStatus, known_status
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import Item, LogLines, Progress
from airflow_provider_rayagent.tail.lines import RedrawingAssembler
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.transport.log_responses import opened_log
from airflow_provider_rayagent.transport.tail_driver import tail_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.transport.tail_driver import Follower

_OUTCOMES = {JobStatus.SUCCEEDED: ExitCode.SUCCESS, JobStatus.STOPPED: ExitCode.STOPPED}
"""Exit codes of a followed job; every other terminal status is a failure, as it is for a task."""
_PROGRESS_SECONDS = 5.0
"""Not ``None``, so that a line that is redrawn with ``\\r`` is printed in its last state only, as in a task log."""


class _Printer(Sink):
    """Prints the records of a job."""

    async def take(self, follower: Follower, items: Sequence[Item]) -> Sequence[Item]:  # noqa: ARG002
        """Return the items without unfinished lines, which are printed when they are complete."""
        return [item for item in items if not isinstance(item, Progress)]

    async def write(self, records: Iterable[Record]) -> None:
        """Print records."""
        lines: list[str] = []
        for record in records:
            if record.from_job:
                lines.append(f"{record.text}\n")
            else:
                # In a terminal, stdout and stderr are one text: the lines before a message must be out before it.
                _write(lines)
                report(record.text)
        _write(lines)


def _records_of(hook: RayAgentHook, job_id: str, redact: Redactor) -> JobRecords:
    """Return what renders the log as a task log shows it, but all of its lines."""
    settings = DisplaySettings(levels=False, progress_interval=None)
    return JobRecords(job_id, settings, redact=redact, where=hook.config.base_url)


def _write(lines: list[str]) -> None:
    if lines:
        sys.stdout.write("".join(lines))
        sys.stdout.flush()
        lines.clear()


def print_log(hook: RayAgentHook, job_id: str) -> ExitCode:
    """Print the log so far, in constant memory.

    :raises RayAgentError: if it cannot be read.
    """
    valid_id = validate_job_id(job_id)
    job = hook.get_job(valid_id)
    redact = Redactor(secrets_of(job), base=hook.config.redact)
    records, printer = _records_of(hook, valid_id, redact), _Printer()
    assembler = RedrawingAssembler(DEFAULT_MAX_LINE_LENGTH, redact=redact)

    async def print_lines(lines: list[str]) -> None:
        await printer.write(records.render([LogLines(lines)], time.monotonic()))

    async def print_text() -> None:
        async with opened_log(hook.get_conn(), valid_id, job) as log:
            while log is not None and (text := await log.read()) is not None:
                await print_lines(assembler.feed(text)[0])
        await print_lines(assembler.flush()[0])
        await printer.write(records.finish())

    finish(print_text())
    return ExitCode.SUCCESS


def follow_log(hook: RayAgentHook, job_id: str) -> ExitCode:
    """Print every line of the log, once and in order, until the job has ended; return its outcome.

    :raises RayAgentError: for an invalid id, or if the first request fails.
    """
    settings = tail_settings("auto", max_line_length=DEFAULT_MAX_LINE_LENGTH, progress_interval=_PROGRESS_SECONDS)
    try:
        # The follower retries for minutes; here, a wrong address ends the command at once.
        hook.get_job(job_id)
    except RayAgentNotFoundError:
        report(f"Job {job_id} does not exist yet; waiting up to {settings.missing_timeout:g} seconds for it.")
    follower = hook.follow_job(job_id, settings)
    try:
        records = _records_of(hook, job_id, follower.redact)
        finish(follow(follower, records, _Printer(), JobWatch(hook.config, job_id)))
    except KeyboardInterrupt:
        report(f"No longer following job {job_id}, which was not stopped.")
        raise
    return _outcome(follower, hook)


def _outcome(follower: Follower, hook: RayAgentHook) -> ExitCode:
    if follower.end is End.JOB_ENDED:
        return _outcome_of_job(follower.job or {}, follower, hook)
    if follower.end is End.JOB_MISSING:
        missing = f"Job {follower.job_id} {'no longer exists' if follower.job else 'does not exist'}."
        report(coded(Code.JOB_MISSING, missing))
        return ExitCode.NOT_FOUND
    error = follower.error or RayAgentError(f"Could not read the status of job {follower.job_id}.")
    report(str(error))
    return exit_code_of(error)


def _outcome_of_job(job: Mapping[str, Any], follower: Follower, hook: RayAgentHook) -> ExitCode:
    status = known_status(job)
    code = ExitCode.FAILED if status is None else _OUTCOMES.get(status, ExitCode.FAILED)
    if code is not ExitCode.SUCCESS:
        report_failure(hook, job, follower.job_id, follower.redact)
    return code


def report_failure(hook: RayAgentHook, job: Mapping[str, Any], job_id: str, redact: Redactor) -> None:
    """Write to stderr why a job did not succeed."""
    look = look_at_failure(hook.config, job)
    explanation = explain(job, job_id, look, log_is_shown=True, redact=redact)
    report(coded(explanation.code, explanation.text))
