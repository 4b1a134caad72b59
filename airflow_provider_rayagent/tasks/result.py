"""The result that a task's job printed, wherever its log was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.render.result import InvalidResultError, ResultFinder
from airflow_provider_rayagent.tail.lines import changed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook


class PrintedResult:
    """What is known of a job's result.

    :param log: the task's logger.
    :param markers: between which the job prints its result.
    """

    def __init__(self, hook: RayAgentHook, job_id: str, log: Any, markers: tuple[str, str]) -> None:
        self._hook = hook
        self._job_id = job_id
        self._log = log
        self.markers = markers
        self._found: ResultFinder | None = None
        self._older: ResultFinder | None = None
        self._is_certain = False

    def take(self, found: ResultFinder | None, *, from_first_line: bool) -> None:
        """Take what a reading of the log found.

        :param from_first_line: whether the reading began there, so that the log need not be read again.
        """
        self._found, self._is_certain = found, from_first_line

    def take_saved(self, final: Mapping[str, Any] | None, older: Mapping[str, Any] | None) -> None:
        """Take what triggers have found; see :meth:`ResultFinder.state`.

        :param final: what was found when the log had been read to its end; ``None`` if that was not saved.
        :param older: what was found before; it counts if the log can't be read again, since a job may print several.
        """
        self._found = None if final is None else ResultFinder(self.markers, final)
        self._older = None if older is None else ResultFinder(self.markers, older)
        self._is_certain = False

    def value(self) -> Any:
        """Return the result; ``None``, and a warning that says why, if there is none that can be used.

        Unless a reading from the first line on says so, the whole log is searched before that is said.
        """
        redact = self._hook.config.redact
        try:
            if self._found is not None:
                return self._found.value(redact)
        except InvalidResultError as error:
            if self._is_certain:
                return self._none(error)
        found = self._search_whole_log() or self._found or self._older or ResultFinder(self.markers)
        try:
            return found.value(redact)
        except InvalidResultError as error:
            return self._none(error)

    def _none(self, why: InvalidResultError) -> None:
        self._log.warning("The result of job %s can't be used: %s.", self._job_id, why)

    def _search_whole_log(self) -> ResultFinder | None:
        """Search the job's whole log; ``None``, and a warning, if that can't be read."""
        finder = ResultFinder(self.markers)
        try:
            for line in self._hook.tail_job_logs(self._job_id):
                finder.feed(changed(line, self._hook.config.redact))
        except RayAgentError as error:
            self._log.warning("The log of job %s could not be read for its result: %s", self._job_id, error)
            return None
        return finder
