"""What a task's job has printed for Airflow, from whichever process read its log."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.exceptions import RayAgentLogsUnavailableError, RayAgentResultError
from airflow_provider_rayagent.render.printed_finder import PrintedFinder
from airflow_provider_rayagent.render.result import InvalidResultError, NoResultError
from airflow_provider_rayagent.run.follow import Sink, follow
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.render.messages import MessageFinder
    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.run.client import JobClient
    from airflow_provider_rayagent.run.follow_options import FollowOptions

READ_AGAIN_SECONDS = 600.0


def seconds_to_read_again(expires: float) -> float:
    """Return for how long a worker may read lines that another process has read: for 10 minutes at most.

    :param expires: ``time.monotonic()`` at which the task's ``execution_timeout`` has expired, which Airflow starts
        anew in the worker that completes a deferred task. Half of what is left is reserved for the outcome, since a
        problem with the log must not decide it.
    """
    return min(max(expires - time.monotonic(), 0.0) / 2, READ_AGAIN_SECONDS)


class _NoSink(Sink):
    """Writes nothing, and ends the following after some seconds, even if the job's log still arrives."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    async def write(self, records: Sequence[Record]) -> None:
        """Do nothing."""

    async def wrote(self, *_: object) -> bool:
        """Return whether time is left."""
        return time.monotonic() < self._deadline


class PrintedOutput:
    """The result and the messages of a job.

    :param log: the task's logger.
    :param options: what to look for.
    :param result_is_expected: whether a job that prints no result is worth a warning.
    :param expires: see :func:`seconds_to_read_again`.
    """

    def __init__(
        self,
        client: JobClient,
        job_id: str,
        log: Any,
        options: FollowOptions,
        *,
        result_is_expected: bool = True,
        expires: float = math.inf,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._log = log
        self._options = options
        self._result_is_expected = result_is_expected
        self._expires = expires
        self._found: PrintedFinder | None = None
        self._older: PrintedFinder | None = None
        self._is_certain = False
        self._is_whole = False
        """Whether this process has read the whole log."""

    @property
    def has_result(self) -> bool:
        """Whether a result is looked for."""
        return bool(self._options.result_markers)

    def set_found(self, found: PrintedFinder, *, is_whole: bool) -> None:
        """Set what was found while reading the log in this process. It need not be searched again if that was whole.

        :param is_whole: whether the log was read to its end.
        """
        self._found, self._is_certain = found, found.from_first_line
        self._is_whole = is_whole and self._is_certain

    def set_saved(self, final: Mapping[str, Any], older: Mapping[str, Any] | None) -> None:
        """Set what triggers have found; see :meth:`PrintedFinder.state`.

        :param final: the state at the end of the log; without its keys if it was not saved.
        :param older: an earlier state. Since a job may print several results, it counts only if the log cannot be read
            again.
        """
        self._found = self._finder(final) if self._finder().is_known(final) else None
        self._older = None if older is None else self._finder(older)
        # Whether the trigger has read the log to its end.
        self._is_certain = self._found is not None and self._found.from_first_line and bool(final.get("log_is_whole"))
        self._is_whole = self._is_certain

    def result_or_none(self) -> Any:
        """Return the result; if there is no usable one, log why and return ``None``."""
        try:
            return self.result()
        except InvalidResultError as error:
            return self._report_unusable(error)

    def required_result(self) -> Any:
        """Return the result.

        :raises RayAgentResultError: if there is no usable one.
        :raises RayAgentLogsUnavailableError: if the log cannot be read to find it.
        """
        try:
            return self.result()
        except InvalidResultError as error:
            why = error
        if not self._is_whole:
            found = self._in_whole_log
            if found is None:
                raise RayAgentLogsUnavailableError(
                    f"The task requires the result of job {self._job_id}, whose log cannot be read."
                )
            try:
                return self._value_of(found)
            except InvalidResultError as error:
                why = error
        raise RayAgentResultError(f"{self._describe(why)} The task requires a result.")

    def result(self) -> Any:
        """Return the result. Unless the log was read from its first line, it is searched again before giving up.

        :raises InvalidResultError: if there is no usable one.
        """
        try:
            if self._found is not None:
                return self._value_of(self._found)
        except InvalidResultError:
            # The whole log has been searched, so another search would find the same.
            if self._is_certain:
                raise
        # What was found before counts only if the log cannot be read (``None``; a finder is always true).
        found = self._in_whole_log or self._found or self._older or self._finder()
        return self._value_of(found)

    @property
    def seen_messages(self) -> MessageFinder:
        """What the messages state that this process has read, or has got from a trigger."""
        # Without reading the log for this: Airflow asks for it at the end of every run.
        in_whole_log = vars(self).get("_in_whole_log")
        return (self._found or in_whole_log or self._older or self._finder()).messages

    @cached_property
    def messages(self) -> MessageFinder:
        """What all messages of the job state: nothing if they are not looked for."""
        if not self._options.read_messages:
            return self._finder().messages
        return (self._found or self._in_whole_log or self._older or self._finder()).messages

    def _finder(self, state: Mapping[str, Any] | None = None) -> PrintedFinder:
        config = self._client.config
        return PrintedFinder(
            self._options.result_markers,
            messages=self._options.read_messages,
            redact=config.redact,
            credentials=config.credentials,
            state=state,
        )

    def _value_of(self, found: PrintedFinder) -> Any:
        if found.result is None:
            raise NoResultError("no result is looked for")
        return found.result.value()

    def _report_unusable(self, why: InvalidResultError) -> None:
        is_usual = isinstance(why, NoResultError) and not self._result_is_expected
        text = coded(Code.NO_RESULT, "%s The result is None.")
        self._log.log(logging.INFO if is_usual else logging.WARNING, text, self._describe(why))

    def _describe(self, why: InvalidResultError) -> str:
        if not isinstance(why, NoResultError):
            return f"Cannot use the result of job {self._job_id}: {why}."
        start, end = self._options.result_markers[0]
        return f"Job {self._job_id} printed no result: that is the JSON between {start} and {end}."

    @cached_property
    def _in_whole_log(self) -> PrintedFinder | None:
        """What the job's whole log has; if it cannot be read, a warning is logged."""
        seconds = seconds_to_read_again(self._expires)
        settings = replace(self._options.tail_settings(), has_answered=True)
        follower = self._client.follow_job(self._job_id, settings, deadline=seconds)
        records = replace(self._options, forward_logs=False).records_of(follower)
        finish(follow(follower, records, _NoSink(seconds)))
        if follower.log_is_whole:
            return records.printed
        error = follower.error or follower.log_error
        self._log.warning(
            coded(Code.NO_RESULT, "Cannot read the log of job %s to find its result and messages: %s"),
            self._job_id,
            error.detail if error else f"reading it took more than {seconds:g} seconds.",
        )
        return None
