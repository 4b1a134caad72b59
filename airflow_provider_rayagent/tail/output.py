"""The output of a tail: lines of the job, and notices about its log, which are limited in number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.items import Item, LogLines, LogRewritten, LogUnreadable, Notice, Progress
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sentences import sentence

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.text_reader import TextReader

UNREADABLE_SECONDS = 60.0
"""How long the log may be unreadable before that is reported."""
MIN_FAILURES_TO_REPORT = 4
MAX_AGENT_ERRORS = 5
"""Number of different errors of the agent that are reported."""


class Output:
    """A queue of items, which the driver takes.

    :param progress_interval: see :class:`TailSettings`.
    """

    def __init__(self, progress_interval: float | None = None) -> None:
        self._progress_interval = progress_interval
        self._items: list[Item] = []
        self._progress_due: float | None = None
        self._state = ""
        self._agent_errors: list[str] = []
        self._unreadable_since: float | None = None
        self._unreadable_reported = False
        self._chars = 0
        self.text_at = 0.0
        """When text was last received that was not received before."""

    def take(self) -> list[Item]:
        """Return and remove all items."""
        items, self._items = self._items, []
        return items

    def add_lines(self, lines: list[str]) -> None:
        """Add lines of the job."""
        if lines:
            self._items.append(LogLines(lines))

    def add_progress(self, now: float, *readers: TextReader | None) -> None:
        """Add the state of an unfinished line, if it has changed and the interval has passed since the last one.

        The first state is delayed by the interval too, so that a progress bar that completes by then is a single line.
        """
        interval = self._progress_interval
        for reader in readers:
            if interval is not None and reader is not None and reader.state and reader.state != self._state:
                self._add_state(now, reader.state, interval)

    def _add_state(self, now: float, state: str, interval: float) -> None:
        if self._progress_due is None:
            self._progress_due = now + interval
        if now >= self._progress_due:
            self._progress_due = now + interval
            self._state = state
            self._items.append(Progress(state))

    def add_agent_error(self, message: str) -> None:
        """Report an error event of the stream."""
        if message not in self._agent_errors and len(self._agent_errors) < MAX_AGENT_ERRORS:
            self._agent_errors.append(message)
            self._add_notice(Code.STREAM_PROBLEM, f"The agent reports a problem with the log stream: {message}")

    def log_unreadable(self, now: float, detail: str, failures: int) -> None:
        """Report that the log is unreadable: once, and only if that persists.

        :param failures: consecutive failures to read the whole log.
        """
        if self._unreadable_since is None:
            self._unreadable_since = now
        persists = now - self._unreadable_since >= UNREADABLE_SECONDS and failures >= MIN_FAILURES_TO_REPORT
        if persists and not self._unreadable_reported:
            self._unreadable_reported = True
            self._add_notice(
                Code.LOG_UNREADABLE,
                f"The job's log cannot be read: {sentence(detail)} Its status is still being monitored.",
                LogUnreadable,
            )

    def log_read(self, now: float, chars: int, *, is_whole: bool = False) -> None:
        """Note that the log was read.

        :param chars: up to which of its characters.
        :param is_whole: whether it ends there.
        """
        self._unreadable_since = None
        self._unreadable_reported = False
        # Other than lines, this tells of a line that has no end yet, such as dots. It may be read again and again.
        if chars > self._chars or (is_whole and chars != self._chars):
            self._chars, self.text_at = chars, now

    def log_rewritten(self) -> None:
        """Report that the log was replaced by another one."""
        self._chars = 0
        self._add_notice(
            Code.LOG_REWRITTEN,
            "The job's log was rotated or rewritten; forwarding it again from the start. Lines of before may be in its "
            "parts, such as job-driver-….log.1 beside it.",
            LogRewritten,
        )

    def log_shorter(self) -> None:
        """Report that the log is shorter than what was forwarded."""
        self._add_notice(Code.LOG_INCOMPLETE, "The job's log is now shorter than what was forwarded.")

    def log_end_lost(self) -> None:
        """Report that the end of the log could not be read."""
        self._add_notice(
            Code.LOG_INCOMPLETE,
            "Could not read the end of the job's log; lines may be missing here.",
            LogUnreadable,
        )

    def _add_notice(self, code: Code, text: str, kind: type[Notice] = Notice) -> None:
        self._items.append(kind(coded(code, text)))
