"""Stop the job of a task whose worker is told to end, unless the task goes on elsewhere."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.task_instance.stopping import state_if_ended, stop_job

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook

HANDLER_SECONDS = 1.0
KILL_SECONDS = 4.0
"""How long a killed task waits for its job to be stopped; Airflow gives it 5 seconds."""


class JobStopper:
    """Stop one job, at most once, if the task owns it.

    :param log: the task's logger.
    :param ti: the task instance.
    :param owns: whether the job is stopped when the task is killed or times out.
    """

    def __init__(self, hook: RayAgentHook, job_id: str, log: Any, ti: Any, *, owns: bool = False) -> None:
        self._hook = hook
        self._job_id = job_id
        self._log = log
        self._ti = ti
        self._owns = owns
        self._was_asked = False
        self._thread: threading.Thread | None = None
        self.task_is_killed = threading.Event()
        """Set when the worker is told to end."""

    def on_kill(self) -> None:
        """Note, from a signal handler, that the task is killed; stop the job unless the task goes on elsewhere."""
        self.task_is_killed.set()
        if self._owns and not self._was_asked and self._thread is None:
            # The signal may have interrupted a write to the log or a request to Airflow's supervisor, whose lock is
            # held until the handler returns: what is not done by then is waited for afterwards.
            thread = threading.Thread(target=self._stop_unless_task_goes_on, daemon=True)
            thread.start()
            self._thread = thread
            thread.join(HANDLER_SECONDS)

    def wait(self) -> None:
        """If the task is being killed, give the request to stop its job the time that is left for it."""
        if self._thread is not None:
            self._thread.join(KILL_SECONDS - HANDLER_SECONDS)

    def job_was_started(self) -> None:
        """Note that the job now exists: if the task was killed meanwhile, stop the job, again if need be."""
        self.wait()
        if self._thread is not None and self._was_asked:
            self._was_asked = False
            self.stop("The task was ended while the job was being started")

    def stop(self, why: str) -> None:
        """Stop the job if the task owns it, once. A failure is logged, not raised."""
        if not self._owns or self._was_asked:
            return
        self._was_asked = True
        stop_job(self._hook.config, self._job_id, self._log, why, hurry=True)

    def _stop_unless_task_goes_on(self) -> None:
        has_ended, state = state_if_ended(self._ti, self._job_id, self._log)
        if has_ended:
            self.stop(f"The task was ended from outside (state: {state})")
