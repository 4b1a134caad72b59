"""Repeat what a task does before its job exists, while the service cannot be reached."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.errors.transience import is_transient
from airflow_provider_rayagent.tail.backoff import pause_after
from airflow_provider_rayagent.text.codes import coded
from airflow_provider_rayagent.text.sentences import sentence
from airflow_provider_rayagent.text.times import shown_clock

if TYPE_CHECKING:
    from collections.abc import Callable

ResultT = TypeVar("ResultT")

FIRST_PAUSE = 1.0
"""Nominal seconds before the first repetition, which follows some of the client's own; doubled for each further one."""
MAX_PAUSE = 15.0
CHECK_SECONDS = 1.0
"""Seconds between two checks whether the task was killed."""


class Patience:
    """Calls functions again whose requests have failed for a reason that may pass.

    :param log: the task's logger.
    :param seconds: for how long.
    :param raise_if_killed: raises :class:`RayAgentError` if the task was killed.
    """

    def __init__(self, log: Any, seconds: float, raise_if_killed: Callable[[], object]) -> None:
        self._log = log
        self._seconds = seconds
        self._raise_if_killed = raise_if_killed

    def call(
        self, function: Callable[[], ResultT], may_repeat: Callable[[RayAgentError], bool] = is_transient
    ) -> ResultT:
        """Return the result of a function.

        :param may_repeat: whether the function may be called again after an error.
        :raises RayAgentError: the last one of the function.
        """
        until = None
        failures = 0
        while True:
            try:
                result = function()
            except RayAgentError as error:
                now = time.monotonic()
                if not may_repeat(error) or (until is not None and now >= until):
                    raise
                if until is None:
                    until = now + self._seconds
                    last = shown_clock(1000 * (time.time() + self._seconds))
                    text = coded(error.code, "%s Trying again until %s.")
                    self._log.warning(text, sentence(error.detail), last)
                failures += 1
                pause = min(pause_after(failures, FIRST_PAUSE, MAX_PAUSE, random.random()), until - now)  # noqa: S311
            else:
                if failures:
                    self._log.info("The service answers again.")
                return result
            self._wait(pause)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, CHECK_SECONDS))
            self._raise_if_killed()
