"""Stop the job of a task that is killed in a worker, unless the task stays active."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.task_instance.stopping import STOP_FAILED, state_if_ended, stop_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.run.client import JobClient
    from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent

HANDLER_SECONDS = 1.0
KILL_SECONDS = 4.0
"""How long a killed task waits for its job's stop. Airflow sends SIGKILL after 5 seconds: see ``escalation_delay`` of
``WatchedSubprocess.kill`` in ``airflow/sdk/execution_time/supervisor.py``."""


class JobStopper:
    """Stop the job of one task, at most once, if the task owns it.

    :param log: the task's logger.
    :param ti: the task instance.
    :param killed: set when Airflow kills the task, which then keeps executing until SIGKILL: long waits must check it.
    :param owns: whether to stop the job when the task is killed or times out.
    :param expires: ``time.monotonic()`` at which the task's ``execution_timeout`` has expired.
    :param on_stop_requested: called when the agent has accepted a stop.
    """

    def __init__(
        self,
        client: JobClient,
        job_id: str,
        log: Any,
        ti: Any,
        killed: ReentrantEvent,
        *,
        owns: bool = False,
        expires: float = math.inf,
        on_stop_requested: Callable[[], object] = bool,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._log = log
        self._ti = ti
        self._owns = owns
        self._expires = expires
        self.stop_requested = False
        """Whether this process has requested the stop."""
        self._thread: threading.Thread | None = None
        self.check: Callable[[Mapping[str, Any]], object] | None = None
        """Raises :class:`RayAgentError` if a job with the id is not the task's own; ``None``: it is known to be."""
        self._on_stop_requested = on_stop_requested
        self.task_is_killed = killed

    def on_kill(self) -> None:
        """Handle the kill, in a signal handler: stop the job unless the task stays active."""
        self.task_is_killed.set()
        if self._owns and not self.stop_requested and self._thread is None:
            # The signal may have interrupted a log write or a request to Airflow's supervisor, and their locks stay
            # locked until this handler returns. So wait here only briefly, and for the rest in wait().
            thread = threading.Thread(target=self._stop_if_task_ended, daemon=True)
            thread.start()
            # Not before start(): other methods join it, and joining a thread that is not started raises RuntimeError.
            self._thread = thread
            thread.join(HANDLER_SECONDS)

    def wait(self) -> None:
        """If the task is being killed, wait for the stop request in the time that is left."""
        if self._thread is not None:
            self._thread.join(KILL_SECONDS - HANDLER_SECONDS)

    def on_job_started(self) -> None:
        """Stop the job if the task was killed while starting it; an earlier stop request may have come too soon."""
        self.wait()
        if self._thread is not None and self.stop_requested:
            self.stop_requested = False
            self.stop("The task was killed while starting the job")

    def stop(self, why: str) -> None:
        """Stop the job once, if the task owns it. A failure is logged, not raised.

        :param why: the reason, as the beginning of a log message.
        """
        if not self._owns or self.stop_requested:
            return
        # Before the request, which on_kill() may interrupt and must not repeat.
        self.stop_requested = True
        try:
            accepted = stop_job(self._client.config, self._job_id, self._log, why, hurry=True, check=self.check)
        except BaseException:
            # The task's execution_timeout may interrupt the request, and then requests the stop again.
            self.stop_requested = False
            raise
        if accepted:
            self._on_stop_requested()

    def _stop_if_task_ended(self) -> None:
        if time.monotonic() >= self._expires:
            # The exception that ends the task was lost, so Airflow 3.4 ends the process from outside
            # (``_handle_execution_timeout_if_needed`` in ``airflow/sdk/execution_time/supervisor.py``). The task's
            # state is still running then.
            self.stop("The task's execution_timeout has expired")
            return
        try:
            has_ended, state = state_if_ended(self._ti, self._job_id, self._log)
        except Exception as error:  # noqa: BLE001 - of Airflow's API, whose errors have no common base
            # Without this line, the error would end this thread and nobody would learn that the job runs on.
            self._log.error(STOP_FAILED, self._job_id, f"the state of the task is unknown: {error}")
            return
        if has_ended:
            self.stop(f"The task was ended externally (state: {state})")
