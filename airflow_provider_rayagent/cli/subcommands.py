"""The commands of ``airflow rayagent``. Airflow imports this module when one of them runs."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.utils.cli import action_cli
from airflow.utils.helpers import ask_yesno

from airflow_provider_rayagent.cli.exit_codes import ExitCode, command, report
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConfigError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentNotFoundError,
)
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.services.job_secrets import secrets_of
from airflow_provider_rayagent.services.jobs import (
    JobStatus,
    describe,
    has_ended,
    id_of,
    known_status,
    shown_status,
    summarize,
)
from airflow_provider_rayagent.waits.capacity_wait import shown_free

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Mapping
    from typing import Any

    from airflow_provider_rayagent.ui.orphans import UnfinishedJob


@command
def jobs(args: Namespace) -> ExitCode:
    """List the jobs, or show the details of one."""
    # Here, since `logs` and `stop` need no tables, which load rich and tabulate.
    from airflow_provider_rayagent.cli.tables import job_rows, print_details, print_rows

    with _hook(args) as hook:
        redact = hook.config.redact
        if args.job_id is None:
            print_rows(job_rows(hook.list_jobs(), args.status, args.limit, redact), args.output, redact)
        else:
            job = hook.get_job(args.job_id)
            redact.add(secrets_of(job))
            summary = summarize(job, args.job_id, redact)
            print_details({name: value for name, value in summary.items() if value is not None}, args.output, redact)
            if known_status(job) is JobStatus.FAILED:
                # Here, since a list needs nothing of what follows and renders a log.
                from airflow_provider_rayagent.cli.logs import report_failure

                report_failure(hook, job, args.job_id, redact)
            elif not has_ended(job):
                from airflow_provider_rayagent.run.wait_watch import reason_of_wait

                if reason := reason_of_wait(hook.config, args.job_id, job):
                    report(f"Job {args.job_id} waits: {reason.text}.")
    return ExitCode.SUCCESS


@command
def logs(args: Namespace) -> ExitCode:
    """Print the log of a job so far, or follow it."""
    from airflow_provider_rayagent.cli.logs import follow_log, print_log

    with _hook(args) as hook:
        return follow_log(hook, args.job_id) if args.follow else print_log(hook, args.job_id)


@command
# For a row in Airflow's audit log. The check of the database would be one of its migrations, in each call.
@action_cli(check_db=False)  # type: ignore[untyped-decorator]
def stop(args: Namespace) -> ExitCode:
    """Request the stop of a job."""
    with _hook(args) as hook:
        job = _details(hook, args.job_id)
        if has_ended(job):
            return _has_ended(hook, args.job_id, job)
        if job:
            hook.config.redact.add(secrets_of(job))
            report(describe(job, args.job_id, hook.config.base_url, redact=hook.config.redact))
        if not _confirmed(args, f"Stop job {args.job_id}? (y/n)"):
            return ExitCode.FAILED
        if _is_stop_accepted(hook, args.job_id):
            report(f"Requested the stop of job {args.job_id}.")
            return ExitCode.SUCCESS
        job = _details(hook, args.job_id)
        if has_ended(job):
            return _has_ended(hook, args.job_id, job)
        status = shown_status(job, hook.config.redact) if job else "unknown"
        report(f"Job {args.job_id} was not stopped; its status is {status}.")
    return ExitCode.FAILED


@command
@action_cli(check_db=False)  # type: ignore[untyped-decorator]
def clean(args: Namespace) -> ExitCode:
    """Delete Ray's records of jobs that ended long ago."""
    with _hook(args) as hook:
        jobs_meant = f"all jobs that ended more than {args.older_than} days ago, whoever submitted them"
        if not _confirmed(args, f"Delete Ray's records of {jobs_meant}? (y/n)"):
            return ExitCode.FAILED
        deleted = hook.delete_ended_jobs(timedelta(days=args.older_than))
        report(f"Deleted the records of {len(deleted)} jobs.")
    return ExitCode.SUCCESS


@command
@action_cli(check_db=False)  # type: ignore[untyped-decorator]
def orphans(args: Namespace) -> ExitCode:
    """List the jobs that have not ended, and whether a task needs them; stop those that none needs."""
    from airflow_provider_rayagent.cli.tables import print_rows, unfinished_rows

    with _hook(args) as hook:
        found = _examined(hook, hook.list_jobs())
        print_rows(unfinished_rows(found, hook.config.redact), args.output, hook.config.redact)
        job_ids = [id_of(each.job) for each in found if not each.left_because]
        report(f"{len(job_ids)} of {len(found)} jobs that have not ended are orphans.")
        if not args.stop or not job_ids:
            return ExitCode.SUCCESS
        if not _confirmed(args, f"Stop {len(job_ids)} jobs? (y/n)"):
            return ExitCode.FAILED
        for job_id in job_ids:
            # Examined again, since a user may have cleared its task meanwhile.
            examined = _examined(hook, [job] if (job := _details(hook, job_id)) else [])
            reason = examined[0].left_because if examined else "it has ended"
            if not reason and not _is_stop_accepted(hook, job_id):
                reason = "the service did not stop it"
            report(f"Job {job_id} is left: {reason}." if reason else f"Requested the stop of job {job_id}.")
    return ExitCode.SUCCESS


@command
def nodes(args: Namespace) -> ExitCode:
    """List the nodes of the cluster."""
    from airflow_provider_rayagent.cli.tables import node_rows, print_rows

    with _hook(args) as hook:
        print_rows(node_rows(hook.list_nodes()), args.output, hook.config.redact)
    return ExitCode.SUCCESS


@command
def gpus(args: Namespace) -> ExitCode:
    """List the nodes with GPUs, and what is free."""
    from airflow_provider_rayagent.cli.tables import gpu_rows, print_rows

    with _hook(args) as hook:
        agent = hook.get_conn()
        resources = agent.send(agent.config.service.get_capacity())
        print_rows(gpu_rows(resources), args.output, hook.config.redact)
        free = shown_free(resources)
        if free:
            report(free)
    return ExitCode.SUCCESS


@command
def apps(args: Namespace) -> ExitCode:
    """List the Serve applications."""
    from airflow_provider_rayagent.cli.tables import application_rows, print_rows

    with _hook(args) as hook:
        print_rows(application_rows(hook.list_serve_applications()), args.output, hook.config.redact)
    return ExitCode.SUCCESS


@command
def doctor(args: Namespace) -> ExitCode:
    """Check the connection step by step."""
    from airflow_provider_rayagent.cli.doctor import diagnose
    from airflow_provider_rayagent.hooks.connection_check import Result

    is_ok = True
    for finding in diagnose(_hook(args).config, args.job_id):
        is_ok = is_ok and finding.result is not Result.PROBLEM
        sys.stdout.write(f"{finding.result.value:<8} {finding.check:<10} {finding.text}\n")
        sys.stdout.flush()
    return ExitCode.SUCCESS if is_ok else ExitCode.FAILED


@command
def explain(args: Namespace) -> ExitCode:
    """Print what the documentation says of a code."""
    from airflow_provider_rayagent.cli.code_sections import section_of

    sys.stdout.write(f"{section_of(args.code)}\n")
    return ExitCode.SUCCESS


def _hook(args: Namespace) -> RayAgentHook:
    return RayAgentHook(args.conn_id, cluster=args.cluster)


def _examined(hook: RayAgentHook, jobs: Iterable[Mapping[str, Any]]) -> list[UnfinishedJob]:
    # Here, since no other command needs the database.
    from sqlalchemy.exc import SQLAlchemyError

    from airflow_provider_rayagent.ui.orphans import examine

    try:
        return examine(jobs, hook.config.job_namespace)
    except SQLAlchemyError as error:
        # Its message may have the password of the database.
        raise RayAgentConfigError(
            f"Airflow's database cannot be read ({type(error).__name__}): run this command where the scheduler runs."
        ) from None


def _details(hook: RayAgentHook, job_id: str) -> Mapping[str, Any]:
    """Return the details of a job; empty if the agent does not know it: it may be in the agent's queue."""
    try:
        return hook.get_job(job_id)
    except RayAgentNotFoundError:
        return {}


def _is_stop_accepted(hook: RayAgentHook, job_id: str) -> bool:
    """Request the stop of a job; return whether that was accepted, which it is not of a job that has ended."""
    try:
        return hook.stop_job(job_id).get("stopped") is not False
    except RayAgentHTTPError as error:
        # An agent may answer so for a job that ended meanwhile.
        if error.status_code not in (400, 404) or not has_ended(_details(hook, job_id)):
            raise
        return False


def _has_ended(hook: RayAgentHook, job_id: str, job: Mapping[str, Any]) -> ExitCode:
    report(f"Job {job_id} has already ended as {shown_status(job, hook.config.redact)}.")
    return ExitCode.SUCCESS


def _confirmed(args: Namespace, question: str) -> bool:
    try:
        is_confirmed = args.yes or ask_yesno(question)
    except (EOFError, RuntimeError):  # The latter if it was closed when Python began.
        raise RayAgentInputError("Nobody can confirm it, since stdin has ended: use --yes.") from None
    if not is_confirmed:
        report("Cancelled.")
    return is_confirmed
