"""The result that a task's job printed, from whichever process read its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.render.result import InvalidResultError, NoResultError, ResultFinder
from airflow_provider_rayagent.tail.lines import map_text
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook


class PrintedResult:
    """The result of a job.

    :param log: the task's logger.
    :param markers: start and end marker of the result.
    :param is_expected: whether a job that prints none is worth a warning.
    """

    def __init__(
        self, hook: RayAgentHook, job_id: str, log: Any, markers: tuple[str, str], *, is_expected: bool = True
    ) -> None:
        self._hook = hook
        self._job_id = job_id
        self._log = log
        self.markers = markers
        self._is_expected = is_expected
        self._found: ResultFinder | None = None
        self._older: ResultFinder | None = None
        self._is_certain = False

    def set_found(self, found: ResultFinder | None, *, from_first_line: bool) -> None:
        """Set what was found while reading the log in this process.

        :param from_first_line: whether the log was read from its first line; then it need not be searched again.
        """
        self._found, self._is_certain = found, from_first_line

    def set_saved(self, final: Mapping[str, Any] | None, older: Mapping[str, Any] | None) -> None:
        """Set what triggers have found; see :meth:`ResultFinder.state`.

        :param final: the state at the end of the log; ``None`` if it was not saved.
        :param older: an earlier state. Since a job may print several results, it counts only if the log cannot be read
            again.
        """
        self._found = None if final is None else ResultFinder(self.markers, final)
        self._older = None if older is None else ResultFinder(self.markers, older)
        self._is_certain = False

    def value(self) -> Any:
        """Return the result; if there is no usable one, log why and return ``None``."""
        try:
            return self.find()
        except InvalidResultError as error:
            return self._report_unusable(error)

    def find(self) -> Any:
        """Return the result. Unless the log was read from its first line, it is searched again before giving up.

        :raises InvalidResultError: if there is no usable one.
        """
        redact = self._hook.config.redact
        try:
            if self._found is not None:
                return self._found.value(redact)
        except InvalidResultError:
            # The whole log has been searched, so another search would find the same.
            if self._is_certain:
                raise
        # What was found before counts only if the log cannot be read (``None``; a finder is always true).
        found = self._search_whole_log() or self._found or self._older or ResultFinder(self.markers)
        return found.value(redact)

    def _report_unusable(self, why: InvalidResultError) -> None:
        if isinstance(why, NoResultError) and not self._is_expected:
            self._log.info("Job %s printed no result.", self._job_id)
        else:
            self._log.warning(coded(Code.NO_RESULT, "Cannot use the result of job %s: %s."), self._job_id, why)

    def _search_whole_log(self) -> ResultFinder | None:
        """Search the job's whole log; if it cannot be read, log a warning and return ``None``."""
        finder = ResultFinder(self.markers)
        try:
            for line in self._hook.tail_job_logs(self._job_id):
                finder.feed(map_text(line, self._hook.config.redact))
        except RayAgentError as error:
            self._log.warning(
                coded(Code.NO_RESULT, "Cannot read the log of job %s to find its result: %s"),
                self._job_id,
                error.detail,
            )
            return None
        return finder
