"""What one process of a task does with its job: follow it, stop it, and turn its outcome into the task's."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_rayagent.connection.job_links import JobLinks
from airflow_provider_rayagent.connection.page_urls import JOB_PAGE
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.exceptions import (
    RayAgentJobFailedError,
    RayAgentJobMissingError,
    RayAgentJobStalledError,
    RayAgentJobStoppedError,
)
from airflow_provider_rayagent.failures.explanation import explain
from airflow_provider_rayagent.metrics.job_metrics import JobMetrics
from airflow_provider_rayagent.position.task_position import recall_position, save_position
from airflow_provider_rayagent.run.failed_job import look_at_failure
from airflow_provider_rayagent.run.message_xcoms import MessageXComs
from airflow_provider_rayagent.run.observer import JobObserver
from airflow_provider_rayagent.run.outcome import Outcome, lost_with_cluster
from airflow_provider_rayagent.run.printed_output import PrintedOutput
from airflow_provider_rayagent.run.stopper import JobStopper
from airflow_provider_rayagent.run.triggers_of_try import TriggersOfTry
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.services.job_secrets import secrets_of
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.task_instance.task_state_store import TaskStateStore
from airflow_provider_rayagent.task_instance.xcoms import push_xcom, try_push_xcom
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.durations import shown_duration
from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.metrics.names import Mode
    from airflow_provider_rayagent.run.client import JobClient
    from airflow_provider_rayagent.run.follow_options import FollowOptions
    from airflow_provider_rayagent.services.jobs import JobSummary

MIN_POKE_SECONDS = 60.0
"""Time for one poke to read what is new in the log."""


class JobRun:
    """One process of a task, from the moment at which it knows its job.

    :param context: of the running task.
    :param log: the task's logger.
    :param options: how to follow the job.
    :param killed: see :class:`.JobStopper`.
    :param links: the pages about the job; ``None``: there are none.
    :param show_links: shows those whose URLs have changed.
    :param mode: how the task follows the job, for metrics.
    :param execution_timeout: the task's, which counts from now.
    :param failed_error: the error to raise for a FAILED job.
    :param result_is_expected: whether a job that prints no result is worth a warning.
    :param result_is_required: whether the task fails without a result.
    :param may_run_again: whether a retry policy may run the task again in the same try (Airflow 3.4).
    :param on_stop_requested: called when the service has accepted a stop.
    :param is_resumed: whether this process completes a deferred task, which cannot be deferred again.
    :param found_pending: whether the job was started by an earlier try, and PENDING when this one found it.
    """

    def __init__(
        self,
        client: JobClient,
        job_id: str,
        context: Context,
        log: Any,
        options: FollowOptions,
        *,
        killed: ReentrantEvent | None = None,
        links: JobLinks | None = None,
        show_links: Callable[[Mapping[str, str]], object] = bool,
        mode: Mode = "worker",
        execution_timeout: timedelta | None = None,
        failed_error: type[RayAgentError] = RayAgentJobFailedError,
        result_is_expected: bool = True,
        result_is_required: bool = False,
        may_run_again: bool = False,
        on_stop_requested: Callable[[], object] = bool,
        is_resumed: bool = False,
        found_pending: bool = False,
    ) -> None:
        has_run = bool(context.get("task_reschedule_count"))
        if has_run:
            # A poke that ended without an error got an answer, and has logged the entrypoint.
            options = replace(options, has_answered=True, names_entrypoint=False)
        self.client = client
        self.job_id = job_id
        self.log = log
        self.options = options
        self.links = links or JobLinks(None, job_id)
        self.is_resumed = is_resumed
        self.found_pending = found_pending
        self.seen: Mapping[str, Any] | None = None
        """The details of the job when the task has ended, as far as they are known."""
        self._context = context
        self._failed_error = failed_error
        self._result_is_required = result_is_required
        self._may_run_again = may_run_again
        self.expires = time.monotonic() + execution_timeout.total_seconds() if execution_timeout else math.inf
        """``time.monotonic()`` at which the task's ``execution_timeout`` has expired."""
        ti = context["ti"]
        self.stopper = JobStopper(
            client,
            job_id,
            log,
            ti,
            killed or ReentrantEvent(),
            owns=options.stop_job_on_kill,
            expires=self.expires,
            on_stop_requested=on_stop_requested,
        )
        self.output = PrintedOutput(
            client, job_id, log, options, result_is_expected=result_is_expected, expires=self.expires
        )

        async def push(key: str, value: Any) -> None:
            push_xcom(ti, key, value)

        self.xcoms = MessageXComs(push, log, job_id, options.printed_links)
        # What an earlier process of this try has forwarded is in the task log already.
        self.observer = JobObserver(
            client,
            job_id,
            log,
            options,
            metrics=JobMetrics(client.rayagent_conn_id, mode, team=options.team_name),
            output=self.output,
            xcoms=self.xcoms,
            position=recall_position(context, job_id, client.config.cluster) if has_run else None,
            stopper=self.stopper,
            on_status=lambda job: show_links(self.links.update(job)),
        )

    def __repr__(self) -> str:
        # Airflow's OpenLineage provider can send the repr of all that a task holds (``TaskInfoComplete`` in
        # ``airflow/providers/openlineage/utils/utils.py``), and the details of a job have its secrets.
        return f"{type(self).__name__}({self.job_id!r})"

    def entrypoint_is_logged(self) -> None:
        """Note that the task log has the entrypoint, so that the first status does not repeat it."""
        self.options = self.observer.options = replace(self.options, names_entrypoint=False)

    # Following

    def follow(self, seconds: float | None = None) -> Outcome:
        """Follow the job to its end, or for at most ``seconds``."""
        try:
            return Outcome.of(self.observer.follow(seconds))
        except AirflowTaskTimeout:
            # Airflow raises this from a signal handler, at any point; the job may have ended by then.
            outcome = self.check(0.0)
            if outcome.end is End.JOB_ENDED:
                return outcome
            self.observer.metrics.ended(End.TIMED_OUT)
            raise
        finally:
            self._save_position()

    def check(self, seconds: float | None) -> Outcome:
        """Check the job once, and forward its log if it has ended; ``end`` is ``None`` if the job is still active.

        :param seconds: time to read the log, but a minute at least; ``None``: no limit.
        """
        follower = self.observer.check_status()
        if follower.end is End.JOB_ENDED:
            follower = self.observer.follow(seconds)
        outcome = Outcome.of(follower)
        return replace(outcome, end=None) if follower.end is End.TIMED_OUT else outcome

    def poke(self, seconds: float) -> Outcome:
        """Check the job once, and forward the new lines of its log, as a task that is rescheduled does.

        :param seconds: time to read the log.
        """
        # Without a store, a later poke would not know which lines are forwarded: read the log once, at the job's end.
        if not self.observer.settings.forward or not TaskStateStore(self._context).exists:
            follower = self.observer.wait_for_status()
            return self.follow(seconds) if follower.end is End.JOB_ENDED else Outcome.of(follower)
        # A deadline that has passed would end this before the new lines are read.
        follower = self.observer.forward_new_lines(max(seconds, MIN_POKE_SECONDS))
        save_position(self._context, self.job_id, self.client.config.cluster, self.observer.position)
        return Outcome.of(follower)

    def after_trigger(self, outcome: Outcome) -> Outcome:
        """Continue where the triggers of this try have stopped; return the outcome with the details of the job.

        :param outcome: from the event of the last trigger.
        """
        # The event has only the status; the XCom and the reason of a failure need the other details.
        if outcome.end is End.JOB_ENDED:
            outcome = replace(outcome, job=self._details(outcome.job or {}))
        self.links.update(outcome.job)
        triggers = TriggersOfTry(self.observer, self._context["ti"], self.log, expires=self.expires)
        position = triggers.position
        self.output.set_saved(triggers.saved, position)
        # Without a saved position (``dag.test()``, Airflow 3.2) nobody knows which lines are missing.
        if position is not None:
            self.observer.position = position
            if self.options.forward_logs:
                triggers.forward_gaps(outcome)
                triggers.log_summary()
            self._save_position()
        return outcome

    def after_no_event(self) -> Outcome:
        """Check the job a last time, after no triggerer has ended the deferral in time."""
        triggers = TriggersOfTry(self.observer, self._context["ti"], self.log, expires=self.expires, ended_early=True)
        # What the triggers have forwarded must not be forwarded again here.
        self.observer.position = triggers.position or self.observer.position
        if self.options.forward_logs:
            triggers.forward_gaps(Outcome(End.TIMED_OUT))
        outcome = self.check(0.0)
        return replace(outcome, end=outcome.end or End.TIMED_OUT)

    def _save_position(self) -> None:
        """Save where this try continues if a retry policy reschedules it."""
        if self._may_run_again:
            save_position(self._context, self.job_id, self.client.config.cluster, self.observer.position)

    # Concluding

    def _details(self, seen: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the details of a job that has ended. If its status differs from ``seen``, keep ``seen``."""
        try:
            job = self.client.get_job(self.job_id)
        except RayAgentError as error:
            # The trigger has seen the job's end, so a failed request must not change the outcome.
            self.log.warning(
                coded(Code.DETAILS_UNRELIABLE, "Failed to read the details of job %s: %s"), self.job_id, error.detail
            )
            return seen
        # The id may belong to another job by now: after a restart of its head, Ray accepts an earlier id again.
        if job.get("status") != seen.get("status"):
            self.log.warning(
                coded(Code.DETAILS_UNRELIABLE, "Job %s ended as %s, but its status is %s now; ignoring the change."),
                self.job_id,
                self._status(seen),
                self._status(job),
            )
            return seen
        return job

    def conclude(self, outcome: Outcome) -> JobSummary:
        """Return the XCom of a job that has succeeded.

        :raises RayAgentJobFailedError: or :class:`RayAgentJobStoppedError`, after pushing the XCom.
        :raises RayAgentJobMissingError: if the agent does not know the job.
        :raises RayAgentError: the last error of the status request.
        """
        self.seen = outcome.job
        self.observer.metrics.ended(outcome.end, outcome.job)
        if outcome.end is End.JOB_ENDED:
            return self._conclude_ended(outcome.job or {})
        if outcome.end is End.JOB_MISSING:
            missing = self.observer.settings.missing_timeout
            raise RayAgentJobMissingError(
                f"Job {self.job_id} "
                + ("no longer exists." if outcome.job else f"still does not exist after {missing:g} seconds.")
                + " Check the job id and the connection; a reinstalled agent or a restarted Ray head has no "
                "earlier jobs.",
                404,
            )
        if outcome.end is End.CLUSTER_GONE:
            raise lost_with_cluster(self.job_id, self.client.config.cluster, outcome.error)
        if self.stopper.task_is_killed.is_set():
            raise RayAgentError(f"The task was killed while it followed job {self.job_id}.", code=Code.NOT_STOPPED)
        raise outcome.error or RayAgentError(f"Could not read the status of job {self.job_id}.")

    def time_out(
        self, name: str, seconds: float, job: Mapping[str, Any] | None, error: type[BaseException]
    ) -> NoReturn:
        """Stop the job if the task owns it, and raise ``error``: the task's timeout ``name`` has expired."""
        self.seen = job
        self.observer.metrics.ended(End.TIMED_OUT)
        self.stopper.stop(f"The task's {name} has expired")
        status = self._status(job) if job else "unknown"
        text = f"Job {self.job_id} did not end within the {name} of {seconds:g} seconds; its status is {status}."
        # A RayAgentError puts a code before its text itself.
        raise error(text if issubclass(error, RayAgentError) else coded(Code.JOB_TIMED_OUT, text))

    def give_up_stalled(self, outcome: Outcome, timeout: float, seconds: float | None) -> Outcome:
        """Stop a job that has stalled if the task owns it, and raise the error.

        If the job has ended or written meanwhile, follow it, and return the outcome.

        :param outcome: of the following that has found it.
        :param timeout: the task's ``stall_timeout``.
        :param seconds: time limit of the following.
        :raises RayAgentJobStalledError: if the job has stalled.
        """
        last = self.check(0.0)
        if last.end is End.JOB_ENDED or self.stopper.task_is_killed.is_set():
            return last
        if self.is_resumed and self._has_written():
            # The worker may have started long after the trigger has ended.
            self.log.info("Job %s has written something meanwhile: this worker follows it.", self.job_id)
            return self.follow(seconds)
        self.seen = last.job or outcome.job
        self.observer.metrics.ended(End.STALLED)
        self.stopper.stop("The task's stall_timeout has expired")
        ran = f" What ran at last: {outcome.stall}." if outcome.stall else ""
        raise RayAgentJobStalledError(
            f"Job {self.job_id} has stalled: within the stall_timeout of {shown_duration(timeout)} it has written "
            f"nothing, and none of its tasks has started or ended.{ran}"
        )

    def _has_written(self) -> bool:
        """Forward the new lines of the log; return whether there were any."""
        before = self.observer.position
        self.observer.forward_new_lines(MIN_POKE_SECONDS)
        after = self.observer.position
        return before is not None and after is not None and after["lines"] > before["lines"]

    def _conclude_ended(self, job: Mapping[str, Any]) -> JobSummary:
        redact = self.client.config.redact
        # A worker that resumes a deferred task has not followed the job, and does not know its secrets.
        redact.add(secrets_of(job))
        summary = jobs.summarize(job, self.job_id, redact)
        finish(self.xcoms.push_all(self.output.messages))
        status = jobs.known_status(job)
        if status is JobStatus.SUCCEEDED:
            if self.output.has_result and not self._result_is_required:
                summary["result"] = self.output.result_or_none()
            elif self.output.has_result:
                try:
                    summary["result"] = self.output.required_result()
                except RayAgentError:
                    self._push_summary(summary)
                    raise
            return summary
        self._push_summary(summary)
        explanation = explain(
            job,
            self.job_id,
            # Now, since the cluster may be gone soon after the task.
            look_at_failure(self.client.config, job),
            log_is_shown=self.options.forward_logs,
            link=self.links.known.get(JOB_PAGE, ""),
            redact=redact,
        )
        kind = RayAgentJobStoppedError if status is JobStatus.STOPPED else self._failed_error
        error = kind(explanation.text, code=explanation.code)
        # RayAgentRetryPolicy sees the error, but not the job.
        error.failure_kind = explanation.kind
        error.causes = explanation.causes
        raise error

    def _push_summary(self, summary: JobSummary) -> None:
        # Airflow pushes only what execute() returns, and this is for a task that raises an error.
        try_push_xcom(self._context["ti"], "return_value", summary, self.log)

    def _status(self, job: Mapping[str, Any]) -> str:
        return jobs.shown_status(job, self.client.config.redact)
