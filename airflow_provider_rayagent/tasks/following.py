"""Base of tasks that follow a job to its end, in a worker or deferred."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_rayagent.exceptions import RayAgentError, RayAgentInputError, RayAgentJobFailedError
from airflow_provider_rayagent.links.printed_links import make_printed_links
from airflow_provider_rayagent.links.rayagent import JobLinkButtons, links_of, push_links
from airflow_provider_rayagent.position.log_files import LOG_STORAGES, LogStorage
from airflow_provider_rayagent.run.outcome import Outcome
from airflow_provider_rayagent.services.job_secrets import secrets_of
from airflow_provider_rayagent.services.validation import (
    MIN_POLL_SECONDS,
    STALL_SECONDS,
    Protocol,
    validate_choice,
    validate_count,
    validate_duration,
    validate_id,
    validate_markers,
    validate_protocol,
)
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.task_instance.xcoms import try_push_xcom
from airflow_provider_rayagent.tasks.deferring import DeferringOperator
from airflow_provider_rayagent.text.bounds import MAX_LINE_LENGTH
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_rayagent.connection.job_links import JobLinks
    from airflow_provider_rayagent.metrics.names import Mode
    from airflow_provider_rayagent.run.follow_options import FollowOptions
    from airflow_provider_rayagent.run.job_run import JobRun
    from airflow_provider_rayagent.services.jobs import JobSummary
    from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger


class JobFollowingOperator(DeferringOperator):
    """Base of :class:`.JobStartingOperator` and :class:`.RayAgentJobSensor`: follow a job to its end.

    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection, such as the name that the
        task which creates the cluster returns. (templated)
    :param forward_logs: forward the job's log to the task log.
    :param detect_levels: detect the level of each line (Python's logging, Ray's own format, glog, JSON; the lines of a
        traceback are errors), so that the log view can filter by level. Otherwise all lines are INFO.
    :param colors: keep terminal colors, which the log view shows; otherwise drop them.
    :param progress_interval: seconds between two states of a progress bar; the last state is always shown. ``None``:
        show every state.
    :param max_lines: number of lines to show; ``None``: all. Of a job that has FAILED or was STOPPED, the last 20 lines
        are shown too.
    :param max_line_length: characters; longer lines are forwarded in marked pieces.
    :param read_result: push the JSON that the job prints between ``result_markers`` to XCom, as ``result``. If there is
        no usable result (none, not JSON, over 64,000 characters, not storable in Airflow), the log says why, and
        ``result`` is ``None``; with ``required``, the task fails instead.
    :param result_markers: start and end marker of the result; the last result that the job prints counts. Default:
        those that ``print_result`` prints, ``__RAYAGENT_RESULT_START__`` and ``__RAYAGENT_RESULT_END__``, and those of
        an agent's plugins.
    :param read_messages: read the messages that the job prints (``rayagent_message``): XComs, the extra of the events
        of assets among the ``outlets``, links, and progress. They never decide the outcome.
    :param show_markers: also show the lines that tell Airflow a message or a result. By default, only those that have
        no effect are shown.
    :param printed_links: names of links among these messages that are buttons of the task, such as ``["TensorBoard"]``;
        not for mapped tasks. The Ray page shows all links.
    :param protocol: how the log is streamed: ``auto``, ``websocket`` or ``http`` (server-sent events).
    :param job_missing_timeout: seconds for which the job may be unknown to the agent, as a job in its queue is.
    :param agent_unreachable_timeout: seconds for which the job's status may be unavailable.
    :param deferrable: follow the job in the triggerer, without a worker slot; default: ``[operators]
        default_deferrable``.
    :param stop_job_on_kill: stop the job when a user ends the task (marks or clears it), or when its timeout does. The
        job keeps running if the task stays active (another triggerer, the next try). For deferred tasks, user actions
        require Airflow 3.3.
    :param log_storage: how the log files of deferred tasks are stored, which determines the lines to forward again if a
        triggerer stops early: ``shared`` (all components of Airflow use one log folder), ``remote`` (files are uploaded
        when a task or trigger ends), ``separate`` (each component keeps its own files), ``auto`` (detect it).
    :param stall_after: seconds for which the job has written nothing before the task log says what runs of it: which
        tasks, since when, on which nodes, and how much of a CPU their processes use. Repeated at doubled intervals, 12
        times at most. ``None``: never.
    :param stall_timeout: seconds after which the task fails and, with ``stop_job_on_kill``, stops the job: if it has
        written nothing meanwhile, and none of its tasks and methods has started or ended. Only for a program that
        writes or starts tasks more often than that. ``None``: never.
    :param stall_stacks: whether to show Python stacks as well, which Ray gets by py-spy: it pauses each process for a
        moment. ``None``: where Ray says that it gives them (from 2.60, if its head runs with
        ``RAY_DASHBOARD_ENABLE_PROFILING=1``).
    """

    template_fields: Sequence[str] = ("job_id", "rayagent_conn_id", "cluster")
    operator_extra_links = JobLinkButtons()
    job_id: str
    _failed_error: type[RayAgentError] = RayAgentJobFailedError
    _result_is_expected = True

    def __init__(
        self,
        *,
        rayagent_conn_id: str = "rayagent_default",
        cluster: str | None = None,
        forward_logs: bool = True,
        detect_levels: bool = True,
        colors: bool = True,
        progress_interval: timedelta | float | None = 5.0,
        max_lines: int | None = None,
        max_line_length: int = MAX_LINE_LENGTH,
        read_result: bool | Literal["required"] = False,
        result_markers: tuple[str, str] | None = None,
        read_messages: bool = False,
        show_markers: bool = False,
        printed_links: Sequence[str] = (),
        protocol: Protocol = "auto",
        job_missing_timeout: timedelta | float = 60.0,
        agent_unreachable_timeout: timedelta | float = 300.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        stop_job_on_kill: bool = False,
        log_storage: LogStorage = "auto",
        stall_after: timedelta | float | None = STALL_SECONDS,
        stall_timeout: timedelta | float | None = None,
        stall_stacks: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rayagent_conn_id = rayagent_conn_id
        self.cluster = cluster
        self.forward_logs = forward_logs
        self.detect_levels = detect_levels
        self.colors = colors
        self.progress_interval = (
            None if progress_interval is None else validate_duration(progress_interval, "progress_interval")
        )
        self.max_lines = None if max_lines is None else validate_count(max_lines, "max_lines")
        self.max_line_length = validate_count(max_line_length, "max_line_length")
        self.read_result = validate_choice(read_result, "read_result", (True, False, "required"))
        self.result_markers = None if result_markers is None else validate_markers(result_markers)
        self.read_messages = read_messages
        self.show_markers = show_markers
        self.printed_links = printed_links
        if printed_links:
            own = type(self).operator_extra_links
            self.operator_extra_links = (*own, *make_printed_links(printed_links, {link.name for link in own}))
        self.protocol = validate_protocol(protocol)
        self.job_missing_timeout = validate_duration(job_missing_timeout, "job_missing_timeout")
        self.agent_unreachable_timeout = validate_duration(agent_unreachable_timeout, "agent_unreachable_timeout")
        self.deferrable = deferrable
        self.stop_job_on_kill = stop_job_on_kill
        self.log_storage = validate_choice(log_storage, "log_storage", LOG_STORAGES)
        self.stall_after = None if stall_after is None else validate_duration(stall_after, "stall_after")
        self.stall_timeout = None if stall_timeout is None else validate_duration(stall_timeout, "stall_timeout")
        self.stall_stacks = validate_choice(stall_stacks, "stall_stacks", (None, True, False))
        if stall_timeout is not None and not (forward_logs or read_result or read_messages):
            raise RayAgentInputError(
                "stall_timeout requires that the job's log is read: set forward_logs, read_result or read_messages."
            )
        self._run: JobRun | None = None
        """What this process does with the job; ``None``: the job is not known yet."""
        self.job_links: JobLinks | None = None
        """The pages about the task's job, which the link classes show."""

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        *,
        job_id: str | None = None,
        found_pending: bool = False,
    ) -> Any:
        """Conclude from the trigger's event.

        :param job_id: the job that the trigger has followed.
        :param found_pending: see :class:`.JobRun`.
        """
        run = self._resumed_run(context, job_id, found_pending=found_pending)
        with self._handle_errors(), self.hook:
            return self._conclude(context, run, run.after_trigger(Outcome.from_event(event)))

    def _resume_without_event(self, context: Context, kwargs: Mapping[str, Any]) -> Any:
        """Check the job a last time."""
        # Airflow adds the error to those of the deferral.
        run = self._resumed_run(context, kwargs.get("job_id"), found_pending=kwargs.get("found_pending", False))
        with self._handle_errors(), self.hook:
            return self._conclude(context, run, run.after_no_event())

    def on_kill(self) -> None:
        """Stop following; with ``stop_job_on_kill``, stop the job unless the task stays active."""
        # The kill can come before the job is known; then no job may be claimed or started.
        self._killed.set()
        if self._run is not None:
            self._run.stopper.on_kill()

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return what Airflow's OpenLineage provider tells of the job before the task starts, or resumes."""
        return self._lineage()

    # Also of a task that failed: without a method for this, the provider calls this one.
    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what Airflow's OpenLineage provider tells of the job when the task has ended."""
        return self._lineage(task_instance)

    def _lineage(self, task_instance: Any = None) -> OperatorLineage[Any, Any]:
        from airflow_provider_rayagent.lineage.run_facet import facet_fields, operator_lineage

        job = dict(self._expected_job())
        job_id = job.pop("job_id", None)
        if self._run is not None:
            job_id = self._run.job_id
            job |= self._run.seen or {}
            # A worker that resumes a deferred task may not know them.
            self.hook.config.redact.add(secrets_of(job))
        return operator_lineage(self, facet_fields(self.hook.config, job, job_id), task_instance)

    def _expected_job(self) -> Mapping[str, Any]:
        """Return what is known of the job before the task has claimed it, by the names of :class:`JobSummary`."""
        return {}

    def url_of_printed_link(self, name: str) -> str:
        """Return the URL of a link that the job has printed, as far as it is known; empty if there is none."""
        return self._run.output.seen_messages.links.get(name, "") if self._run is not None else ""

    def _poll_seconds(self) -> float:
        """Return the seconds between two status checks."""
        raise NotImplementedError

    def _mode(self) -> Mode:
        """Return how the task follows the job, for metrics."""
        return "deferred" if self.deferrable else "worker"

    def _time_limit(self) -> float | None:
        """Return the seconds for which to follow the job; ``None``: no limit."""
        return self.execution_timeout.total_seconds() if self.execution_timeout else None

    def _time_out(self, run: JobRun, job: Mapping[str, Any] | None) -> None:
        """Raise the timeout error."""
        run.time_out("execution_timeout", self._time_limit() or 0.0, job, AirflowTaskTimeout)

    @contextmanager
    def _handle_errors(self) -> Iterator[None]:
        """Stop the job when the ``execution_timeout`` has expired."""
        try:
            yield
        except AirflowTaskTimeout:
            self._stop_at_timeout()
            raise

    def _stop_at_timeout(self) -> None:
        # Airflow calls on_kill() later (``_run_execute_callable`` in ``airflow/sdk/execution_time/task_runner.py``),
        # which keeps the job, since the task's state is still running.
        if self._run is not None:
            self._run.stopper.stop("The task's execution_timeout has expired")

    def _new_run(self, context: Context, job_id: str, *, start_deadline: float | None = None, **facts: Any) -> JobRun:
        """Return what this process does with a job, which is the task's from here on.

        :param start_deadline: see :class:`.FollowOptions`.
        :param facts: see :class:`.JobRun`.
        """
        from airflow_provider_rayagent.run.job_run import JobRun

        # Not in __init__, where the id may still be a template or the output of another task.
        validate_id(job_id, "job")
        ti = context["ti"]
        self.job_links = links_of(self, job_id)
        push_links(ti, self.job_links.known)
        self._run = JobRun(
            self.hook,
            job_id,
            context,
            self.log,
            replace(self._follow_options(job_id), start_deadline=start_deadline),
            killed=self._killed,
            links=self.job_links,
            show_links=partial(push_links, ti),
            mode=self._mode(),
            execution_timeout=self.execution_timeout,
            failed_error=self._failed_error,
            result_is_expected=self._result_is_expected,
            result_is_required=self.read_result == "required",
            # Before Airflow 3.3 there are no retry policies.
            may_run_again=getattr(self, "retry_policy", None) is not None,
            **facts,
        )
        if self._killed.is_set():
            # The kill that came before has found no stopper.
            self._run.stopper.on_kill()
        return self._run

    def _resumed_run(self, context: Context, job_id: str | None = None, **facts: bool) -> JobRun:
        """Return what this process does with the job for which the task has deferred.

        :param job_id: ``None``: ``dag.test()`` drops the arguments of a deferral.
        """
        return self._new_run(context, job_id or self.job_id, is_resumed=True, **facts)

    def _follow_options(self, job_id: str) -> FollowOptions:  # noqa: ARG002 - for the operators that start it
        from airflow_provider_rayagent.metrics.stats import team_of_task
        from airflow_provider_rayagent.render.record_builder import DisplaySettings
        from airflow_provider_rayagent.render.result import RESULT_MARKERS
        from airflow_provider_rayagent.run.follow_options import FollowOptions

        markers = RESULT_MARKERS if self.result_markers is None else (self.result_markers,)
        return FollowOptions(
            forward_logs=self.forward_logs,
            protocol=self.protocol,
            poll_interval=max(self._poll_seconds(), MIN_POLL_SECONDS),
            job_missing_timeout=self.job_missing_timeout,
            agent_unreachable_timeout=self.agent_unreachable_timeout,
            max_line_length=self.max_line_length,
            stop_job_on_kill=self.stop_job_on_kill,
            display=DisplaySettings(
                levels=self.detect_levels,
                colors=self.colors,
                progress_interval=self.progress_interval,
                max_lines=self.max_lines,
                markers=self.show_markers,
            ),
            result_markers=markers if self.read_result else (),
            read_messages=self.read_messages,
            printed_links=tuple(self.printed_links),
            log_storage=self.log_storage,
            stall_after=self.stall_after,
            stall_timeout=self.stall_timeout,
            stall_stacks=self.stall_stacks,
            team_name=team_of_task(),
        )

    def _conclude(self, context: Context, run: JobRun, outcome: Outcome) -> Any:
        while outcome.end is End.STALLED:
            outcome = run.give_up_stalled(outcome, self.stall_timeout or 0.0, self._time_limit())
        if outcome.end is End.TIMED_OUT:
            self._time_out(run, outcome.job)
        result = run.conclude(outcome)
        if self.outlets:
            from airflow_provider_rayagent.run.outlet_extras import add_extras

            add_extras(context, self.outlets, run.output.messages, result)
        return self._output(result)

    def _output(self, summary: JobSummary) -> Any:
        """Return what a task whose job has succeeded returns.

        :raises AirflowSkipException: if the task is skipped.
        """
        return summary

    def _follow_in_worker(self, context: Context, run: JobRun) -> Any:
        """Follow the job to its end."""
        with self.hook:
            return self._conclude(context, run, run.follow())

    def _follow_deferred(self, context: Context, run: JobRun) -> Any:
        # Do not defer for a job that has ended: the task could not resume at once (see task_instance/resume_delay.py).
        with self.hook:
            outcome = run.check(self._time_limit())
        if outcome.end is not None:
            return self._conclude(context, run, outcome)
        position = run.observer.position
        if context.get("task_reschedule_count") and position and position["lines"]:
            # See below: a trigger of this try has forwarded these lines, which a second one would delete.
            self.log.info("A triggerer has forwarded a part of this log already: this worker follows the job.")
            return self._follow_in_worker(context, run)
        self.log.info(
            "Deferring: the triggerer follows job %s from here on; its lines still appear in this log.", run.job_id
        )
        from airflow_provider_rayagent.position.trigger_position import POSITION_KEY, initial_position

        if run.observer.settings.forward:
            try_push_xcom(context["ti"], POSITION_KEY, initial_position(context["ti"]), self.log)
        # Defer only once per try: the triggerer opens a trigger's log file for writing, not appending, so a second
        # deferral would truncate it (TriggerLoggingFactory in airflow/jobs/triggerer_job_runner.py).
        return self._defer(
            partial(self._trigger, run),
            self._time_limit(),
            # Not by an XCom alone, which a backend may refuse.
            job_id=run.job_id,
            **({"found_pending": True} if run.found_pending else {}),
        )

    def _trigger(self, run: JobRun, deadline: float | None) -> RayAgentJobTrigger:
        from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

        position = run.observer.position
        return RayAgentJobTrigger(
            job_id=run.job_id,
            **self._service_arguments,
            deadline=deadline,
            position=storable(dict(position)) if position else None,
            **replace(run.options, has_answered=run.observer.has_answered).to_json(),
        )
