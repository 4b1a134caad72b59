"""A tail that a test drives by hand, on a virtual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.stream.events import Event
from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.tail.commands import Command, TailSettings
from airflow_provider_rayagent.tail.items import Notice, lines_in
from airflow_provider_rayagent.tail.machine import Tail

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.items import Item


class Story:
    """A tail, a clock, and the items of the tail so far."""

    def __init__(self, *, deadline: float | None = None, **settings: Any) -> None:
        self.now = 0.0
        self.tail = Tail(TailSettings(**settings), deadline=deadline, jitter=lambda: 0.5)
        self.lines: list[str] = []
        self.said: list[str] = []
        self.told: list[tuple[float, Item]] = []
        """Each item, after the moment at which it came."""

    def next(self, *, status: str = "RUNNING") -> Command:
        """Return the next command other than GetStatus and Wait, which are executed."""
        while True:
            command = self.tail.next(self.now)
            if isinstance(command, commands.GetStatus):
                self.tail.status_received(self.now, status, terminal=status == "SUCCEEDED")
            elif isinstance(command, commands.Wait):
                self.now += command.seconds
            else:
                self._take()
                return command

    def until(self, kind: type[Command], *, status: str = "RUNNING") -> Any:
        """Return the first command of a kind. Until then, opening fails and reads yield nothing."""
        for _ in range(1000):
            command = self.next(status=status)
            if isinstance(command, kind):
                return command
            if isinstance(command, commands.OpenStream):
                self.tail.stream_failed(self.now)
            elif isinstance(command, commands.OpenWholeLog):
                self.tail.whole_log_failed(self.now, "Refused.")
            elif isinstance(command, commands.ReadStream):
                self.now += max(command.seconds, 0.01)
                self.tail.stream_idle(self.now)
        raise AssertionError(f"never {kind}")

    def stream(self, *events: Event, status: str = "RUNNING") -> None:
        """Open a stream and deliver events."""
        self.until(commands.OpenStream, status=status)
        self.tail.stream_opened(self.now)
        self.receive(*events)

    def receive(self, *events: Event) -> None:
        self.tail.stream_received(self.now, events)
        self._take()

    def text(self, text: str, *, status: str = "RUNNING") -> None:
        """Respond to the next request for the whole log."""
        self.until(commands.OpenWholeLog, status=status)
        self.text_of_open_log(text, status=status)

    def text_of_open_log(self, text: str, *, status: str = "RUNNING") -> None:
        """Respond to the request for the whole log that was just made."""
        self.tail.whole_log_opened(self.now)
        self.tail.whole_log_received(self.now, text)
        if isinstance(self.next(status=status), commands.ReadWholeLog):
            self.tail.whole_log_ended(self.now)
        self._take()

    def _take(self) -> None:
        for item in self.tail.take():
            self.told.append((self.now, item))
            if isinstance(item, Notice):
                self.said.append(item.text)
            self.lines += lines_in([item])


def log(*messages: str) -> list[Event]:
    return [Event("log", message) for message in messages]
