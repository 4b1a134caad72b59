"""The whole log as one tail reads it: what for, and when again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.backoff import Backoff, interval_between_readings, pause_between_readings
from airflow_provider_rayagent.tail.live_stream import ConnectionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.messages import Stretch
    from airflow_provider_rayagent.tail.reading import TextReading

MAX_PAUSE_SECONDS = 15.0
COMPARE_SECONDS = 1.0
"""Between two comparisons of a stream with the whole log."""
MAX_COMPARE_FAILURES = 10


class WholeLog:
    """The whole log is read to forward what is new in it, or to compare a stretch of it with a stream.

    :param jitter: returns a number in [0, 1).
    """

    def __init__(self, settings: TailSettings, jitter: Callable[[], float]) -> None:
        self._interval = settings.log_interval or interval_between_readings(settings.poll_interval)
        self._backoff = Backoff(0.5, MAX_PAUSE_SECONDS, jitter)
        self._compare_failures = 0
        self.state = ConnectionState.CLOSED
        self.reading: TextReading | None = None
        """What is read to be forwarded."""
        self.stretch: Stretch | None = None
        """What is read to be compared."""
        self.opened_at = 0.0
        self.compare_due = 0.0
        """The moment of the next comparison."""
        self.was_tried = False
        """Whether it was read to its end, or could not be."""

    @property
    def due(self) -> float:
        """The moment of the next reading."""
        return self._backoff.due

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._backoff.failures

    def opened(self, now: float, reading: TextReading) -> None:
        """Note that the log begins to come.

        :param reading: takes it, if it is to be forwarded.
        """
        self.state = ConnectionState.OPEN
        self.opened_at = now
        if self.stretch is None:
            self.reading = reading

    def done(self) -> None:
        """Have the driver close the answer, if there is one."""
        if self.state is ConnectionState.OPEN:
            self.state = ConnectionState.DONE

    def closed(self) -> None:
        """Note that the driver has closed the answer, or that it came to its end."""
        self.state = ConnectionState.CLOSED

    def was_read(self, now: float, *, job_has_ended: bool) -> None:
        """Note that the log was read to its end, to be forwarded."""
        self.was_tried = True
        self._compare_failures = 0
        pause = 0.0 if job_has_ended else pause_between_readings(self._interval, now - self.opened_at)
        self._backoff.succeeded(now + pause)

    def read_at(self, moment: float) -> None:
        """Put the next reading at a moment."""
        self._backoff.succeeded(moment)

    def failed(self, now: float) -> None:
        """Note that the log could not be read to be forwarded."""
        self.reading = None
        self.was_tried = True
        self._backoff.failed(now)

    def rewritten(self, now: float) -> None:
        """Note that another log is there now, which is read from its beginning after a pause."""
        self.reading = None
        self._backoff.failed(now)

    def compared(self, now: float, *, is_known: bool) -> None:
        """Note that a comparison has ended.

        :param is_known: whether the log could be read for it.
        """
        self.stretch = None
        self.compare_due = now + COMPARE_SECONDS
        if is_known:
            self._compare_failures = 0

    def compare_failed(self, now: float, *, transient: bool) -> bool:
        """Note that the log could not be read to be compared. Return whether that is given up."""
        self.stretch = None
        self.compare_due = now + COMPARE_SECONDS
        self._compare_failures += 1 if transient else MAX_COMPARE_FAILURES // 2
        return self._compare_failures >= MAX_COMPARE_FAILURES

    def status_changed(self, now: float) -> None:
        """Note that the job's status changed: a log that could not be had may be there now."""
        self._backoff.succeeded(now)

    def service_recovered(self, now: float) -> None:
        """Note that the service answers again."""
        self._backoff.hasten(now)
