"""The output of a tail: the job's lines, and, sparingly, notices about the log."""

from __future__ import annotations

from airflow_provider_rayagent.tail.items import Item, LogLines, LogRewritten, Notice, Progress

UNREADABLE_SECONDS = 60.0
"""After so long without any log text the task log is told that there is a problem."""
MIN_FAILURES_TO_TELL = 4
MAX_AGENT_ERRORS = 5
"""Different errors of the agent that the task log is told of."""


class Output:
    """Items in order, to be taken by the driver."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._progress_due: float | None = None
        self._state = ""
        self._agent_errors: list[str] = []
        self._trouble_since: float | None = None
        self._trouble_said = False

    def take(self) -> list[Item]:
        """Return what there is, and forget it."""
        items, self._items = self._items, []
        return items

    def lines(self, lines: list[str]) -> None:
        """Tell lines of the job."""
        if lines:
            self._items.append(LogLines(lines))

    def progress(self, now: float, state: str, interval: float) -> None:
        """Tell what an unfinished line shows, if it is news and ``interval`` seconds have passed since the last time.

        The first state waits for as long, so that a bar that is soon complete is one line.
        """
        if not state or state == self._state:
            return
        if self._progress_due is None:
            self._progress_due = now + interval
        if now >= self._progress_due:
            self._progress_due = now + interval
            self._state = state
            self._items.append(Progress(state))

    def service_error(self, message: str) -> None:
        """Tell what the agent said is wrong."""
        if message not in self._agent_errors and len(self._agent_errors) < MAX_AGENT_ERRORS:
            self._agent_errors.append(message)
            self._say(f"The agent reports a problem with the log stream: {message}")

    def unreadable(self, now: float, detail: str, failures: int) -> None:
        """Tell, once and if it lasts, that the log can't be read.

        :param failures: of the whole log, in a row.
        """
        if self._trouble_since is None:
            self._trouble_since = now
        lasting = now - self._trouble_since >= UNREADABLE_SECONDS and failures >= MIN_FAILURES_TO_TELL
        if lasting and not self._trouble_said:
            self._trouble_said = True
            self._say(f"The job's log cannot be read: {detail} Its status is still being monitored.")

    def readable(self) -> None:
        """Take note that log text came."""
        self._trouble_since = None
        self._trouble_said = False

    def rewritten(self) -> None:
        """Tell that another log is there now."""
        self._say(
            "The job's log was rotated or rewritten; forwarding it again from the start.",
            LogRewritten,
        )

    def shorter(self) -> None:
        """Tell that the log ends before what was forwarded does."""
        self._say("The job's log is now shorter than what was forwarded.")

    def lost(self) -> None:
        """Tell that the log's end could not be had."""
        self._say("Could not read the end of the job's log; lines may be missing here.")

    def _say(self, text: str, kind: type[Notice] = Notice) -> None:
        self._items.append(kind(text))
